#!/bin/sh
# Builds the stand-ins for NVIDIA's libraries into a folder: build.sh DIR [selftest]. With `selftest`, their test too.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
to=$1
mkdir -p "$to"
to=$(cd "$to" && pwd)
flags="-std=c++17 -O2 -fPIC -Wall -Wextra -pthread"
parts=$(mktemp -d "$to/parts.XXXXXX")
trap 'rm -rf "$parts"' EXIT

# Each compiler's success is its file: a shell's `wait` forgets the others.
compile() {
    name=$1
    shift
    g++ $flags "$@" -c "$here/$name.cpp" -o "$parts/$name.o"
}
library() {
    name=$1
    shift
    g++ -shared -pthread -Wl,-z,defs -Wl,-soname,"$name" "-Wl,-rpath,\$ORIGIN" "$@" -o "$parts/$name"
    mv "$parts/$name" "$to/$name"
    ln -sf "$name" "$to/${name%.so.*}.so"
}

cp "$here/shim.h" "$here/device_thread.h" "$to/"
(compile cudnn -O3 -march=native) &
convolutions=$!
(compile cublaslt -O3 -march=native && compile nvrtc) &
products=$!
# Kernels refer to a thread-local variable of this library, which must be in the block set up with each thread.
for name in report memory workers executor stream copy driver; do compile "$name" -ftls-model=initial-exec; done
cd "$parts"
library libcuda.so.1 report.o memory.o workers.o executor.o stream.o copy.o driver.o -ldl
wait "$products"
library libnvrtc.so.13 nvrtc.o "$to/libcuda.so.1" -ldl
library libcublasLt.so.13 cublaslt.o "$to/libcuda.so.1"
wait "$convolutions"
library libcudnn.so.9 cudnn.o "$to/libcuda.so.1"
if [ "${2-}" = selftest ]; then
    g++ $flags "$here/selftest.cpp" "$to/libcuda.so.1" "$to/libnvrtc.so.13" "$to/libcublasLt.so.13" "$to/libcudnn.so.9" \
        "-Wl,-rpath,\$ORIGIN" -o "$to/selftest"
fi
