#!/usr/bin/env bash
# Builds the Apptainer images of xtalfill:  containers/build.sh [--mirror URL] [--output DIR] [IMAGE...]
#   --mirror URL   a Debian mirror: the base is then made with debootstrap, else from an OCI image
#   --output DIR   where the images and their SHA256SUMS go (containers/)
#   IMAGE          tools, dft, relax or inpaint; all of them where none is named
set -euo pipefail
umask 022 # every user of an image has to read what is in it
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

die() {
    echo "ERROR: $*" >&2
    exit 1
}

# Writes what pip has to know to reach the index that it uses on this machine. The folder is bound to /mnt of an image
# while it is built: nothing of it stays inside, as a build argument would.
write_pip_settings() {
    local settings certificate
    settings=$(python3 -m pip config list 2> /dev/null) || return 0
    certificate=$(sed -nE "s/^[^.]*\.cert='(.*)'$/\1/p" <<< "$settings" | head -n 1)
    {
        echo "[global]"
        # The environment comes first and wins.
        sed -nE "s/^[^.]*\.(index-url|extra-index-url|trusted-host|proxy|timeout|retries)='(.*)'$/\1 = \2/p" <<< "$settings" |
            sed 's/\\n/ /g' | awk '!seen[$1]++'
        [[ -z $certificate ]] || echo "cert = /mnt/certificates.crt"
    } > "$1/pip.conf"
    [[ -z $certificate ]] || cp "$certificate" "$1/certificates.crt"
}

# Builds beside the old image and renames: an interrupted build leaves the old one whole.
build() {
    local image=$1 name=xtalfill-$1-$version.sif stale
    stale=$(find "containers/$image.def" requirements/{constraints,mattergen}.txt -newer "$output/$name" 2> /dev/null || echo missing)
    if [[ -z $stale ]]; then
        echo "images: $output/$name is up to date"
        return
    fi
    echo "images: building $output/$name"
    apptainer build --force "${arguments[@]}" "$output/$name.part" "containers/$image.def"
    mv "$output/$name.part" "$output/$name"
    (
        cd "$output"
        { grep -v "  $name\$" SHA256SUMS 2> /dev/null || true; sha256sum "$name"; } | sort -k 2 > SHA256SUMS.part
        mv SHA256SUMS.part SHA256SUMS
    )
    echo "images: $output/$name, $(du -m "$output/$name" | cut -f 1) MB, in $((SECONDS / 60)) min $((SECONDS % 60)) s from the start"
}

output=containers
arguments=()
images=()
while (($#)); do
    case $1 in
        --mirror)
            [[ -n ${2:-} ]] || die "--mirror needs the URL of a Debian mirror"
            command -v debootstrap > /dev/null || die "--mirror needs debootstrap (Debian: debootstrap)"
            arguments+=(--build-arg BOOTSTRAP=debootstrap --build-arg "MIRROR=$2")
            shift 2
            ;;
        --output)
            [[ -n ${2:-} ]] || die "--output needs a folder"
            output=$2
            shift 2
            ;;
        -*) die "unknown option $1: see the head of containers/build.sh" ;;
        *)
            [[ $1 =~ ^[a-z]+$ && -f containers/$1.def ]] || die "no recipe containers/$1.def"
            images+=("$1")
            shift
            ;;
    esac
done
# The smaller ones first.
((${#images[@]})) || images=(tools dft relax inpaint)
command -v apptainer > /dev/null || die "apptainer is not on PATH: install Apptainer >= 1.2 to build images"
version=$(sed -nE "s/^ +version += '([^']+)'$/\1/p" nextflow.config)
[[ -n $version ]] || die "nextflow.config names no version"

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
write_pip_settings "$settings"
arguments+=(--bind "$settings:/mnt:ro" --build-arg "VERSION=$version")
arguments+=(--build-arg "REVISION=$(git describe --always --dirty --abbrev=40 --exclude='*' 2> /dev/null || echo unknown)")
if [[ $EUID -ne 0 ]]; then
    arguments+=(--fakeroot)
fi
mkdir -p "$output"
for image in "${images[@]}"; do
    build "$image"
done
