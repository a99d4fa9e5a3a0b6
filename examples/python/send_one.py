#!/usr/bin/env python3
"""Send one file to a Sluice receiver: send_one.py HOST:PORT FILE

Needs python3-grpcio, python3-protobuf and b3sum, as Debian has them, and
sluice.binpb, which describes the messages (buf build proto), beside this file.
"""
import hashlib, hmac, os, pathlib, socket, struct, subprocess, sys, time, uuid
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The message classes, made from the description.
files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(__file__).with_name("sluice.binpb").read_bytes())
pool = descriptor_pool.DescriptorPool()
for file in files.file:
    pool.AddSerializedFile(file.SerializeToString())
factory = message_factory.MessageFactory(pool)

def call(channel, method, **fields):
    request, response = (factory.GetPrototype(pool.FindMessageTypeByName(f"sluice.v1.{method}{kind}")) for kind in ("Request", "Response"))
    rpc = channel.unary_unary(f"/sluice.v1.ReceiverService/{method}", request.SerializeToString, response.FromString)
    return rpc(request(**fields))

def send(target, path):
    channel, size = grpc.insecure_channel(target), os.path.getsize(path)
    millis = time.time_ns() // 1_000_000  # a UUID version 7 (RFC 9562 section 5.7)
    transfer = uuid.UUID(int=millis << 80 | 0x7 << 76 | 0x2 << 62 | int.from_bytes(os.urandom(9), "big") & ~(0x3 << 62))
    who = dict(transfer_id=str(transfer), session=os.urandom(16))
    answer = call(channel, "Negotiate", **who, last=True, entries=[dict(path=os.path.basename(path), size=size)])
    if not answer.ok:
        sys.exit(f"refused: {answer.refusal.message} {[(p.path, p.reason) for p in answer.refusal.problems]}")
    if size:  # an empty file has no octets to send
        host, _, port = answer.data_addresses[0].rpartition(":")
        with socket.create_connection((host.strip("[]") or target.rpartition(":")[0].strip("[]"), int(port))) as lane, open(path, "rb") as source:
            hello = b"SLUC\x01\0\0\0" + transfer.bytes + struct.pack(">Q", answer.epoch) + os.urandom(16)
            lane.sendall(hello + hmac.digest(answer.token, hello, hashlib.sha256))
            lane.sendall(struct.pack(">B3xIQQ", 1, 0, 0, size))  # a frame: file 0, from octet 0, all of it
            lane.sendfile(source)
            lane.shutdown(socket.SHUT_WR)
            for kind, why, _, _, _ in struct.iter_unpack(">BBxxIII", lane.makefile("rb").read()):
                if kind in (3, 4) and why:  # a chunk refused, or the lane ended for a reason
                    sys.exit(f"the lane ended: kind {why}")
    digest = bytes.fromhex(subprocess.run(["b3sum", "--no-names", path], check=True, capture_output=True, text=True).stdout)
    result = call(channel, "Commit", **who, digests=dict(last=True, files=[dict(size=size, digest=dict(algorithm="ALGORITHM_BLAKE3", sum=digest))]))
    print(f"committed {result.receipt.bytes} octets as {result.receipt.files[0].digest.sum.hex()}")

if __name__ == "__main__":
    send(*sys.argv[1:])
