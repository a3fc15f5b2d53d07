"""Asks rpcbind as often as 260 runs of rpcinfo, over one connection (RFC 5531): program 100000, version 2, procedure 0."""
import socket
import struct
import time

with socket.create_connection(("127.0.0.1", 111)) as rpcbind:
    for transaction in range(260):
        call = struct.pack(">10I", transaction, 0, 2, 100000, 2, 0, 0, 0, 0, 0)
        # Record marking: the last fragment, and its length.
        rpcbind.sendall(struct.pack(">I", 0x80000000 | len(call)) + call)
        reply = rpcbind.recv(4096)
        assert struct.unpack(">I", reply[4:8]) == (transaction,), reply
        time.sleep(0.015)
    time.sleep(1)
