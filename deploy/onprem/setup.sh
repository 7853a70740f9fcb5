#!/usr/bin/env bash
# Give this host ~/lungct-venv: a Python 3.11 or 3.12 with Ray and the packages that constraints.txt pins.
# deploy/onprem.yaml calls it on every host at every `ray up`. It takes, in this order:
#   1. ~/lungct-venv as it is, if nothing is lacking;
#   2. a Python on the account's PATH that lacks nothing, by a link: such a host needs no package index;
#   3. a virtual environment that pip fills;
#   4. where pip cannot, a Python with other versions that pyproject.toml allows, and says so.
# lungct itself is not installed: it is found in ~/lungct-src, so a change of its code needs no installation.
set -euo pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
VENV=$HOME/lungct-venv
LACKING=$HERE/lacking.py

main() {
    # A link whose Python has gone or lacks something would hide what else there is.
    if test -L "$VENV" && ! complete "$VENV/bin/python"; then rm "$VENV"; fi
    mapfile -t PYTHONS < <(pythons)
    if take_complete || install; then return; fi
    if take_complete --other-versions; then
        echo "lungct: nothing could be installed on $(hostname); these are not the versions of constraints.txt:" >&2
        "$VENV/bin/python" "$LACKING" >&2 || true
        return
    fi
    explain
    return 1
}

# The Pythons on the PATH that may do, each once. A name there may be a shim that has no Python to run.
pythons() {
    local python prefix seen=":$VENV:"
    type -ap python3.12 python3.11 python3 python | while read -r python; do
        prefix=$(prefix "$python") || continue
        case $seen in *":$prefix:"*) continue ;; esac
        seen+="$prefix:"
        echo "$python"
    done
}

# Where this Python and its packages are; fails where there is none or of another version.
prefix() {
    "$1" -c 'import sys; print(sys.prefix); sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' </dev/null 2>/dev/null
}

complete() {
    prefix "$1" >/dev/null && "$1" "$LACKING" "${@:2}" &>/dev/null
}

take_complete() {
    local python
    for python in "$VENV/bin/python" "${PYTHONS[@]}"; do
        if complete "$python" "$@"; then
            take "$python"
            return
        fi
    done
    return 1
}

take() {
    if test "$1" = "$VENV/bin/python"; then return; fi
    rm -rf "$VENV"
    ln -s "$(prefix "$1")" "$VENV"
}

install() {
    prefix "$VENV/bin/python" >/dev/null || make_venv || return
    "$VENV/bin/python" -m pip install --quiet --constraint "$HERE/../constraints.txt" \
        --requirement <("$VENV/bin/python" "$LACKING" --requirements)
}

# Debian's Python can make one only with python3-venv installed: the next may do.
make_venv() {
    local python
    for python in "${PYTHONS[@]}"; do
        if "$python" -m venv --clear "$VENV"; then return; fi
    done
    return 1
}

explain() {
    local python
    for python in "${PYTHONS[@]}"; do
        echo "lungct: $python lacks $("$python" "$LACKING" | paste -sd ',' | cut -c-300)" >&2
    done
    echo "lungct: error: $(hostname) has no Python 3.11 or 3.12 with what lungct needs, and pip could not install it." \
        "Let pip reach a package index (PIP_INDEX_URL or pip.conf), or put a prepared Python first on this account's" \
        "PATH: docs/cluster.md, \"Your own machines\"." >&2
}

main
