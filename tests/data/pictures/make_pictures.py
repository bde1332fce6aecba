"""Makes small pictures in the forms that PNG and JPEG have, and expected.safetensors with their 8-bit pixels as Pillow decodes them;
resized.safetensors has some of them resized in floats, so that nothing is rounded between the axes.

    python make_pictures.py .

Interlaced and 16-bit PNGs are put together by hand here: Pillow writes none of the former and reads the latter without rounding to 8 bits.
"""
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image
from safetensors.numpy import save_file

out = sys.argv[1]
H, W = 9, 11
rng = np.random.default_rng(3)
grey = rng.integers(0, 256, (H, W), dtype=np.uint8)
rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
y, x = np.mgrid[0:H, 0:W]
smooth = np.stack([20 * x, 25 * y, 10 * (x + y)], -1).astype(np.uint8)
expected = {}


def png(name, colour, depth, passes):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    raw = b"".join(b"\0" + row.tobytes() for rows in passes for row in rows)
    head = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, len(passes) > 1)
    with open(f"{out}/{name}", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def save(name, image, want=None, **options):
    image.save(f"{out}/{name}", **options)
    if want is not False:
        expected[name] = np.asarray(Image.open(f"{out}/{name}").convert(want) if want else Image.open(f"{out}/{name}"))


save("grey.png", Image.fromarray(grey))
save("bits.png", Image.fromarray(grey).convert("1"), "L")
save("rgb.png", Image.fromarray(rgb))
save("palette.png", Image.fromarray(smooth).quantize(16), "RGB")
save("opaque.png", Image.fromarray(np.dstack([rgb, np.full((H, W), 255, np.uint8)])), "RGB")
save("opaque-grey.png", Image.fromarray(np.dstack([grey, np.full((H, W), 255, np.uint8)])), "L")
save("clear.png", Image.fromarray(np.dstack([rgb, grey])), False)
save("clear-colour.png", Image.fromarray(smooth).quantize(16), False, transparency=0)
save("gamma.png", Image.fromarray(rgb))
save("grey.jpg", Image.fromarray(smooth[:, :, 2]), quality=90)
save("rgb.jpg", Image.fromarray(smooth), quality=90)
save("progressive.jpeg", Image.fromarray(smooth), quality=90, progressive=True)
save("cmyk.jpg", Image.fromarray(smooth).convert("CMYK"), False)

# gamma.png gets a gAMA chunk (1.0), which readers of data ignore
data = open(f"{out}/gamma.png", "rb").read()
gama = b"gAMA" + struct.pack(">I", 100000)
open(f"{out}/gamma.png", "wb").write(data[:33] + struct.pack(">I", 4) + gama + struct.pack(">I", zlib.crc32(gama)) + data[33:])

wide = rng.integers(0, 65536, (H, W), dtype=np.uint16)
png("grey16.png", 0, 16, [wide.astype(">u2")])
expected["grey16.png"] = np.round(wide / 257).astype(np.uint8)
adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
png("interlaced.png", 2, 8, [np.ascontiguousarray(rgb[r::s, c::t]) for r, c, s, t in adam7])
expected["interlaced.png"] = rgb
assert (np.asarray(Image.open(f"{out}/interlaced.png")) == rgb).all()

save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, f"{out}/expected.safetensors", metadata={"pillow": PIL.__version__})

resized = {}
for name in "rgb.png", "grey.png":
    for side in 2, 5, 8, 16:  # of the shorter side, which is the height
        planes = [plane.convert("F").resize((round(W * side / H), side), Image.LANCZOS) for plane in Image.open(f"{out}/{name}").split()]
        resized[f"{name} {side}"] = np.stack([np.asarray(plane) for plane in planes], -1)
save_file(resized, f"{out}/resized.safetensors", metadata={"pillow": PIL.__version__})
