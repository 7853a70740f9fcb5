#!/usr/bin/env bash
# Make ~/lungct-venv on this host: a Python 3.11 or 3.12 with Ray and the packages that constraints.txt pins.
# deploy/onprem.yaml calls this on every host at every `ray up`. It uses the first of these that works:
#   1. ~/lungct-venv as it is, if it lacks nothing;
#   2. a link to a Python on the account's PATH that lacks nothing: such a host needs no package index;
#   3. a virtual environment that pip fills;
#   4. a link to a Python with other versions that pyproject.toml allows, after a warning.
# lungct itself is not installed but imported from ~/lungct-src, so a change of its code needs no installation.
set -euo pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
VENV=$HOME/lungct-venv
LACKING=$HERE/lacking.py

main() {
    # A link to a Python that was removed, or lacks something, would hide the other ones.
    if test -L "$VENV" && ! complete "$VENV/bin/python"; then rm "$VENV"; fi
    mapfile -t PYTHONS < <(pythons)
    if take_complete || install; then return; fi
    if take_complete --other-versions; then
        echo "lungct: nothing could be installed on $(hostname); these versions differ from constraints.txt:" >&2
        "$VENV/bin/python" "$LACKING" >&2 || true
        return
    fi
    explain
    return 1
}

# The Pythons on the PATH of a supported version, each once. A name there may be a shim without a Python to run.
pythons() {
    local python prefix seen=":$VENV:"
    type -ap python3.12 python3.11 python3 python | while read -r python; do
        prefix=$(prefix "$python") || continue
        case $seen in *":$prefix:"*) continue ;; esac
        seen+="$prefix:"
        echo "$python"
    done
}

# Where this Python and its packages are; fails if it does not run or has another version.
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

# Debian's Python can make one only if python3-venv is installed: then the next Python is tried.
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
