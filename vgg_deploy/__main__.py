"""``python -m vgg_deploy``: the console script, where its folder is not on the path."""

import sys

from vgg_deploy.cli import main

sys.exit(main())
