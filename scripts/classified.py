"""What measure-prompts and measure-scenes share: pictures and tensors as files, and what a classifier of Retort says of them."""
import json
import os
import struct
import subprocess
import zipfile
import zlib

RETORT = os.environ.get("RETORT", "build/release/retort")
VIEWS = ["front", "side", "back", "overhead"]


def read_png(data):
    """The values of an RGBA picture of 8 bits, planar, colours times alpha, in -1..1."""
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 6)
        if kind == b"IDAT":
            packed += body
        at += 12 + size
    raw, stride = zlib.decompress(packed), 4 * width
    rows, above = [], bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            a, b, c = line[i - 4] if i > 3 else 0, above[i], above[i - 4] if i > 3 else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            line[i] = line[i] + (0, a, b, (a + b) // 2, paeth)[kind] & 255
        rows.append(line)
        above = line
    pixels = [row[4 * x:4 * x + 4] for row in rows for x in range(width)]
    straight = [[2 * (p[k] * p[3] // 255 if k < 3 else p[3]) / 255 - 1 for p in pixels] for k in range(4)]
    return [v for plane in straight for v in plane], (4, height, width)


def write_tensor(path, values, shape):
    head = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * len(values)]}}).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + struct.pack("<%df" % len(values), *values))


def labels_of(classifier, path, folder):
    out = os.path.join(folder, "logits.safetensors")
    subprocess.run([RETORT, "predict", classifier, "--inputs", path, "--out", out, "--force", "-q"], check=True)
    with open(out, "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["out"]
        values = struct.unpack("<%df" % (head["data_offsets"][1] // 4), f.read())
    width = head["shape"][1]
    rows = [values[i:i + width] for i in range(0, len(values), width)]
    return [row.index(max(row)) for row in rows]


def table(title, names, wanted, got):
    shares = []
    for k, name in enumerate(names):
        of = [g == w for g, w in zip(got, wanted) if w == k]
        shares.append("%s %.3f" % (name, sum(of) / max(1, len(of))))
    right = sum(g == w for g, w in zip(got, wanted)) / len(got)
    mean = sum(float(s.split()[1]) for s in shares) / len(shares)
    print("%-20s %.3f of %d, mean over words %.3f: %s" % (title, right, len(got), mean, ", ".join(shares)))
    return mean


def true_views(held):
    """The classes, captions and pictures of a zip that `retort init --labels caption` reads."""
    with zipfile.ZipFile(held) as z:
        info = json.loads(z.read("dataset.json"))
        captions = dict(info["captions"])
        return info["classes"], list(captions.values()), [read_png(z.read(name)) for name in captions]


def camera_views(path):
    """The view word of every camera of a transforms.json."""
    with open(path) as f:
        return [frame["view"] for frame in json.load(f)["frames"]]
