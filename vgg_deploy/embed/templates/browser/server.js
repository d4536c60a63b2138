/** The page on http://127.0.0.1:8080, or the port that PORT names. */
import { pageServer } from './page_server.js';

const server = pageServer().listen(Number(process.env.PORT ?? 8080), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
