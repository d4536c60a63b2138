/** The page on http://127.0.0.1:8080, or the port that PORT names. */
import { pageServer } from './page_server.js';

const port = process.env.PORT || '8080';
const server = pageServer();

server.on('error', ({ code, message }) => {
  const reason = { EADDRINUSE: 'is in use', EACCES: 'is not yours to use' }[code];
  refuse(`port ${port} ${reason ?? `cannot be used: ${message}`}; set PORT to another`);
});

if (/^\d+$/.test(port) && port < 65536) {
  server.listen(Number(port), '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${server.address().port}`);
  });
} else {
  refuse(`PORT is ${port}; set it to a number up to 65535`);
}

function refuse(message) {
  console.error(message);
  process.exitCode = 1;
}
