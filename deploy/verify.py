#!/usr/bin/env python3
"""Checks a log without casebook-audit: chain, tree and commitments.   verify.py MIRROR [BUNDLE.zip | ENTRY.json]...
MIRROR is a folder of export --format tiles. Signatures are not checked: compare the three lines that are printed with a
checkpoint that came to you by another way. The format is described in ledger/testdata/README.md."""
import base64, hashlib, json, pathlib, struct, sys, zipfile

H = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
lp4 = lambda text: struct.pack(">I", len(text.encode())) + text.encode()
def need(holds, what):
    if not holds:
        sys.exit("does not hold: " + what)

def bundle_path(n, width):
    path = f"{n % 1000:03d}"
    while n >= 1000:
        n //= 1000
        path = f"x{n % 1000:03d}/{path}"
    return "tile/entries/" + path + ("" if width == 256 else f".p/{width}")
def walk(mirror, origin, size):
    """Every leaf in order: the chain, and the root of the tree."""
    prev, chain, at, stack, hashes = H(b"\x13", origin.encode()), None, -1 << 63, [], []
    for first in range(0, size, 256):
        width = min(256, size - first)
        data = (mirror / bundle_path(first // 256, width)).read_bytes()
        need(len(data) == 103 * width, f"bundle of entry {first}")
        for seq in range(first, first + width):
            length, leaf = data[:2], data[2:103]
            data = data[103:]
            recorded, = struct.unpack(">q", leaf[61:69])
            chain = chain or leaf[5:21]
            need(length == b"\0\x65" and leaf[:4] == b"ALE\x01" and leaf[5:21] == chain and leaf[21:29] == struct.pack(">Q", seq), f"leaf {seq}")
            need(leaf[29:61] == prev and recorded >= at, f"link of entry {seq} to the one before")
            prev, at, height = H(b"\0", leaf), recorded, 0
            node = prev
            hashes.append(node)
            while stack and stack[-1][0] == height:
                node, height = H(b"\1", stack.pop()[1], node), height + 1
            stack.append((height, node))
    root = stack.pop()[1] if stack else H()
    while stack:
        root = H(b"\1", stack.pop()[1], root)
    return hashes, root
def commitment(fields):
    digest = lambda i, f: bytes.fromhex(f["digest"]) if "digest" in f else H(b"\x11", bytes.fromhex(f["salt"]), struct.pack(">I", i),
        lp4(f["path"]), lp4(f["type"]), bytes([f["state"]]), lp4(f.get("value", "")))
    return H(b"\x12", struct.pack(">I", len(fields)), *(digest(i, f) for i, f in enumerate(fields)))

mirror = pathlib.Path(sys.argv[1])
origin, size, root = (mirror / "checkpoint").read_text().split("\n")[:3]
hashes, computed = walk(mirror, origin, int(size))
need(base64.b64decode(root) == computed, "the root of the tree")
for name in sys.argv[2:]:
    z = zipfile.ZipFile(name) if zipfile.is_zipfile(name) else None
    for text in [z.read(n) for n in z.namelist() if n.startswith("entries/")] if z else [pathlib.Path(name).read_bytes()]:
        entry = json.loads(text)
        leaf = bytes.fromhex(entry["leaf"])
        need(entry["seq"] < len(hashes) and H(b"\0", leaf) == hashes[entry["seq"]], f"entry {entry['seq']} of {name} is in the log")
        need(commitment(entry["fields"]) == leaf[69:], f"fields of entry {entry['seq']} of {name}")
print(origin, size, root, sep="\n")
