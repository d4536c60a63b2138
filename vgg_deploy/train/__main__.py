"""One process of a run: ``torchrun --nproc-per-node N -m vgg_deploy.train -o BUNDLE …``.

Takes the options of ``vgg-deploy train``.
"""

import sys

from vgg_deploy.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
