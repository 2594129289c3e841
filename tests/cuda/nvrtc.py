"""Compiles the kernels with NVIDIA's own compiler and assembler, neither of which needs a GPU.

    pip install --target DIR --no-deps nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-nvcc==13.0.88
    python tests/cuda/nvrtc.py DIR

Fails on an error, a warning, and a kernel that spills registers. Prints the most registers of any kernel.
"""
import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent.parent
packages = pathlib.Path(sys.argv[1])


def find(name):
    found = sorted(packages.glob(f"nvidia/**/{name}"))
    if not found:
        sys.exit(f"error: no `{name}` under `{packages}`")
    return found[0]


def compile(text, number, architecture):
    """Intermediate code of all kernels."""
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"distillery.cu", 0, None, None)
    options = [f"-DNUMBER={number}".encode(), f"--gpu-architecture=compute_{architecture}".encode()]
    result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if result or log.value.strip():
        sys.exit(f"error: {number} on compute_{architecture}:\n{log.value.decode()}")
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, code)
    return code.value


# In the order in which `src/train/cuda/source.rs` lists them.
sources = re.findall(r'include_str!\("(kernels/\w+\.cu)"\)', (ROOT / "src/train/cuda/source.rs").read_text())
text = "".join((ROOT / "src/train/cuda" / source).read_text() for source in sources).encode()
ctypes.CDLL(str(find("libnvrtc-builtins.so.13.0")), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(str(find("libnvrtc.so.13")))
assembler = find("bin/ptxas")
assembler.chmod(0o755)
with tempfile.TemporaryDirectory() as folder:
    ptx = pathlib.Path(folder) / "kernels.ptx"
    for architecture in (80, 90, 100):
        for number in ("float", "bf16"):
            ptx.write_bytes(compile(text, number, architecture))
            command = [assembler, f"-arch=sm_{architecture}", "-v", ptx, "-o", f"{folder}/kernels.cubin"]
            done = subprocess.run(command, capture_output=True, text=True)
            kernels = re.findall(r"Compiling entry function '(\w+)'", done.stderr)
            spills = re.findall(r"(\d+) bytes spill stores", done.stderr)
            registers = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
            if done.returncode or len(kernels) < 70 or any(int(spill) for spill in spills):
                sys.exit(f"error: {number} on sm_{architecture}:\n{done.stderr}")
            print(f"sm_{architecture} {number}: {len(kernels)} kernels, at most {max(registers)} registers, no spills")
