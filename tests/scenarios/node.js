// Requests one after the other, over an agent that keeps its connections or one that does not.
const http = require("http");
const agent = new http.Agent({ keepAlive: process.env.KEEP === "yes" });
const end = Date.now() + 7000;
let requests = 0;
function ask() {
  if (Date.now() > end) {
    console.log(JSON.stringify({ requests, seconds: 7 }));
    process.exit(0);
  }
  http.get({ host: "127.0.0.1", port: 8097, path: "/page", agent }, (answer) => {
    requests += 1;
    answer.resume();
    answer.on("end", () => setTimeout(ask, 10));
  });
}
ask();
