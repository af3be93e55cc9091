#!/bin/sh
# Builds the example modules from source: udfs/build.sh [--install] [OUTPUT_FOLDER]
#
# Every crate of udfs/examples becomes OUTPUT_FOLDER/<crate>.wasm (udfs/examples/built without an argument).
# It takes either a Rust with the target wasm32-unknown-unknown, as rustup gives it, or Debian's packages
# rustc-web, rust-web-src and lld-22. Those have no compiled standard library for wasm32: it is built once, and
# kept in ~/.cache/luge. --install fetches the packages with apt-get where neither is there.
#
#   LUGE_WASM_TOOLCHAIN=rustup|debian   takes one of the two, instead of the first that is there
#   LUGE_GUESTS=FOLDER                  builds another workspace of guests than udfs/examples, such as benches/functions
#   CARGO_TARGET_DIR                    where intermediate files go
set -eu

target=wasm32-unknown-unknown
root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
examples=${LUGE_GUESTS:-$root/examples}
debian_rustc=/usr/bin/rustc
packages='rustc-web rust-web-src lld-22'
# Guests see this much stack, below everything else in memory, so that an overflow traps. With their data that
# is mostly one page; the default of 1 MiB would make every fresh instance sixteen pages larger.
stack_bytes=32768
max_module_bytes=102400

die() {
    echo "udfs/build.sh: $*" >&2
    exit 1
}

usage() {
    die "usage: udfs/build.sh [--install] [OUTPUT_FOLDER]"
}

install=no
output=
for argument in "$@"; do
    case $argument in
        --install) install=yes ;;
        -*) usage ;;
        *) [ -z "$output" ] || usage; output=$argument ;;
    esac
done
output=${output:-$examples/built}

# Paths of this machine would land in the messages of panics.
remap() {
    echo "--remap-path-prefix=$1=$2"
}

has_rustup_target() {
    libraries=$(rustc --print target-libdir --target "$target" 2>/dev/null) && [ -d "$libraries" ] &&
        ls "$libraries"/libcore-*.rlib >/dev/null 2>&1
}

debian_linker() {
    # lld must be as new as the LLVM of rustc, if it is to read what rustc wrote.
    for version in 22 19; do
        [ ! -x "/usr/bin/wasm-ld-$version" ] || { echo "/usr/bin/wasm-ld-$version"; return; }
    done
    return 1
}

has_debian_packages() {
    [ -x "$debian_rustc" ] && debian_linker >/dev/null && [ -d "$(debian_sources)/library/std" ]
}

debian_sources() {
    echo "/usr/src/rustc-$("$debian_rustc" --version 2>/dev/null | cut -d' ' -f2)"
}

install_packages() {
    echo "installing $packages" >&2
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # three words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >&2
}

# The standard library for wasm32, built from Debian's sources and the crates that come with them, without a network.
# Embedded bitcode lets guests be optimised as a whole. A folder under its final name is always complete.
build_sysroot() {
    sysroot=$1
    sources=$(debian_sources)
    mkdir -p "$(dirname "$sysroot")"
    work=$(mktemp -d "$sysroot.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/src"
    cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "sysroot"
version = "0.0.0"
edition = "2021"

[workspace]

[profile.release]
panic = "abort"
TOML
    : >"$work/src/lib.rs"
    echo "building the standard library for $target, once, into $sysroot" >&2
    (
        cd "$work"
        RUSTC=$debian_rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
            RUSTFLAGS="-C embed-bitcode=yes $(remap "$sources" /rust) $(remap /usr/lib/rustlib/src/rust /rust)" \
            cargo build --quiet --offline --release --target "$target" -Z build-std=std,panic_abort \
            --config 'source.crates-io.replace-with="debian"' \
            --config "source.debian.directory=\"$sources/library/vendor\""
    )
    libraries=$work/sysroot/lib/rustlib/$target/lib
    mkdir -p "$libraries"
    cp "$work/target/$target/release/deps/"lib*.rlib "$libraries"
    rm -f "$libraries"/libsysroot-*.rlib
    # Macros run on this machine, so its own standard library belongs to the sysroot, too.
    host=$("$debian_rustc" -vV | sed -n 's/^host: //p')
    ln -s "/usr/lib/rustlib/$host" "$work/sysroot/lib/rustlib/$host"
    rm -rf "$sysroot"
    mv "$work/sysroot" "$sysroot"
    rm -rf "$work"
    trap - EXIT
}

command -v cargo >/dev/null || die "cargo is missing, see https://rustup.rs"

toolchain=${LUGE_WASM_TOOLCHAIN:-}
if [ -z "$toolchain" ]; then
    if has_rustup_target; then
        toolchain=rustup
    else
        toolchain=debian
    fi
fi

missing="no Rust for $target: run \`rustup target add $target\`, or on Debian \`apt-get install $packages\` (udfs/build.sh --install does that)"
# Cargo splits the flags at this character, so that paths may have spaces.
separator=$(printf '\037')
flags="-Clink-arg=-zstack-size=$stack_bytes${separator}-Clink-arg=--stack-first"
case $toolchain in
    rustup)
        has_rustup_target || die "$missing"
        ;;
    debian)
        if ! has_debian_packages && [ "$install" = yes ]; then
            install_packages
        fi
        has_debian_packages || die "$missing"
        version=$("$debian_rustc" --version | cut -d' ' -f2)
        sysroot=${XDG_CACHE_HOME:-$HOME/.cache}/luge/wasm-sysroot-$version
        [ -d "$sysroot" ] || build_sysroot "$sysroot"
        export RUSTC="$debian_rustc"
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(debian_linker)
        export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER
        flags="$flags${separator}--sysroot=$sysroot"
        ;;
    *) die "LUGE_WASM_TOOLCHAIN is $toolchain, expected rustup or debian" ;;
esac

build=${CARGO_TARGET_DIR:-$examples/target}
# Another compiler's intermediate files are of no use.
export CARGO_TARGET_DIR="$build/guests-$toolchain"
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
manifest=$examples/Cargo.toml
cargo fetch --quiet --locked --target "$target" --manifest-path "$manifest"

flags="$flags$separator$(remap "$root" /luge/udfs)"
for registry in "${CARGO_HOME:-$HOME/.cargo}/registry/src/"*; do
    flags="$flags$separator$(remap "$registry" /crates)"
done
export CARGO_ENCODED_RUSTFLAGS="$flags"
cargo build --quiet --locked --release --target "$target" --manifest-path "$manifest"

mkdir -p "$output"
for module in "$CARGO_TARGET_DIR/$target/release/"*.wasm; do
    name=$(basename "$module")
    [ -d "$examples/$(echo "${name%.wasm}" | tr _ -)" ] || continue
    bytes=$(wc -c <"$module")
    [ "$bytes" -le "$max_module_bytes" ] || die "$name has $bytes bytes, the limit is $max_module_bytes"
    cp "$module" "$output/$name"
    chmod 644 "$output/$name"
    printf '%7d  %s\n' "$bytes" "$name"
done
