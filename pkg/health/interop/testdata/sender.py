"""Scapy as STAMP Session-Sender: sends pings to PORT and prints the replies.

Each line of output is one reply as JSON, dissected by scapy.
"""
import json
import socket
import sys

from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated as Reply,
    STAMPSessionSenderTestUnauthenticated as Request,
    STAMPTestTLV as TLV,
)
from scapy.layers.inet import UDP

port, count = int(sys.argv[1]), int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.connect(("127.0.0.1", port))
sock.settimeout(30)

for seq in range(count):
    request = Request(
        seq=seq, ssid=4660 + seq,
        err_estimate=ErrorEstimate(S=0, Z=0, scale=3, multiplier=7),
        tlv_objects=[
            TLV(flags=0x80, type=1, len=5, value=b"\x01\x02\x03\x04\x05"),
            TLV(flags=0x80, type=77, len=3, value=b"abc"),
            TLV(flags=0x80, type=251, len=32, value=b"\0" * 32),
        ])
    request.fields["ts"] = (3_900_000_000 + seq) << 32 | 0x12345678
    sent = bytes(request)
    sock.send(sent)
    got = sock.recv(65535)
    # Scapy takes the length of the TLVs from the UDP header above them.
    reply = Reply(got, _parent=UDP(sport=862, dport=40000, len=8 + len(got)))
    print(json.dumps({
        "sent": len(sent), "got": len(got),
        "seq": reply.seq, "ssid": reply.ssid, "ts": reply.fields["ts"],
        "s": int(reply.err_estimate.S), "z": int(reply.err_estimate.Z),
        "multiplier": reply.err_estimate.multiplier,
        "ts_rx": reply.fields["ts_rx"], "seq_sender": reply.seq_sender,
        "ts_sender": reply.fields["ts_sender"],
        "err_sender": bytes(reply.err_estimate_sender)[:2].hex(),
        "mbz": [reply.mbz1, reply.mbz2], "ttl_sender": reply.ttl_sender,
        "tlvs": [{"flags": int(t.flags), "type": t.type, "value": bytes(t.value).hex()}
                 for t in reply.tlv_objects],
    }), flush=True)
