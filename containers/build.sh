#!/usr/bin/env bash
# Builds the Apptainer images:  containers/build.sh [--mirror URL] [--output DIR] [IMAGE...]
#   --mirror URL   build the base with debootstrap from this Debian mirror instead of an OCI image
#   --output DIR   folder for the images and SHA256SUMS (default: containers/)
#   IMAGE          tools, dft, relax or inpaint (default: all)
set -euo pipefail
umask 022 # files in an image must be readable by all users
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

die() {
    echo "ERROR: $*" >&2
    exit 1
}

# Writes the pip configuration of this machine (index, proxy, certificate). The folder is mounted at
# /mnt during the build and is not stored in the image, unlike a build argument.
write_pip_settings() {
    local settings certificate
    settings=$(python3 -m pip config list 2> /dev/null) || return 0
    certificate=$(sed -nE "s/^[^.]*\.cert='(.*)'$/\1/p" <<< "$settings" | head -n 1)
    {
        echo "[global]"
        # Environment variables are listed first and have priority.
        sed -nE "s/^[^.]*\.(index-url|extra-index-url|trusted-host|proxy|timeout|retries)='(.*)'$/\1 = \2/p" <<< "$settings" |
            sed 's/\\n/ /g' | awk '!seen[$1]++'
        [[ -z $certificate ]] || echo "cert = /mnt/certificates.crt"
    } > "$1/pip.conf"
    [[ -z $certificate ]] || cp "$certificate" "$1/certificates.crt"
}

# Builds to a temporary file and renames it: an interrupted build keeps the old image.
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
        -*) die "unknown option $1; see the header of containers/build.sh" ;;
        *)
            [[ $1 =~ ^[a-z]+$ && -f containers/$1.def ]] || die "recipe containers/$1.def does not exist"
            images+=("$1")
            shift
            ;;
    esac
done
# Smaller images first.
((${#images[@]})) || images=(tools dft relax inpaint)
command -v apptainer > /dev/null || die "apptainer is not on PATH; install Apptainer >= 1.2 to build images"
version=$(sed -nE "s/^ +version += '([^']+)'$/\1/p" nextflow.config)
[[ -n $version ]] || die "nextflow.config contains no version"

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
