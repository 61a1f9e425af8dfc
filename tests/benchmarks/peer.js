// Peer: npm's smtp-server as it is, but for two things that wait and do not work.
//
//     node peer.js JOB PORT CERTIFICATE KEY
//
// It ends when its standard input does.
"use strict";

const { readFileSync } = require("fs");
const { SMTPServer } = require("smtp-server");
const { SMTPConnection } = require("smtp-server/lib/smtp-connection.js");

// Its own init() lets 100 ms pass before each greeting, to catch clients that talk too soon; there
// is no option for that.
SMTPConnection.prototype.init = function () {
    this._setListeners(() => this.connectionReady());
};

const [job, port, certificate, key] = process.argv.slice(2);

const server = new SMTPServer({
    authOptional: true,
    lmtp: job === "lmtp",
    // Otherwise it asks the DNS for the name of each client.
    disableReverseLookup: true,
    // It offers STARTTLS by default.
    cert: readFileSync(certificate),
    key: readFileSync(key),
    // All it has is a stream.
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", () => callback());
    },
});
// A client that is gone is no error of the server's.
server.on("error", () => {});
server.listen(Number(port), "127.0.0.1");
process.stdin.on("end", () => process.exit()).resume();
