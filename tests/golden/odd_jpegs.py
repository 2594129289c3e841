# Two JPEGs that need care: CMYK, as print shops have them, and one that a camera held on its side.
import pathlib, PIL.Image as I
here = pathlib.Path(__file__).parent
im = I.new("RGB", (16, 8)); 
for y in range(8):
    for x in range(16):
        im.putpixel((x, y), (250, 20, 10) if x < 8 else (10, 30, 240))
im.convert("CMYK").save(here/"cmyk.jpg", quality=95)
ex = im.getexif(); ex[0x0112] = 6
im.save(here/"on_its_side.jpg", quality=95, exif=ex, subsampling=0)
