# shellcheck shell=bash
# mirror.sh -- sourced by the scripts that fetch Debian's packages: release, mirror.

# This machine's release of Debian; elsewhere, or with none, the one whose compilers the others here are.
release() (
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "${ID-}" = debian ] && [ -n "${VERSION_CODENAME-}" ] && echo "$VERSION_CODENAME" || echo bookworm
)

# MIRROR, or where the packages of that release come from here, in either format of apt's lists; Debian's own where neither says.
mirror() {
    [ -z "${MIRROR-}" ] || { echo "$MIRROR"; return; }
    {
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v suite="$(release)" '
            function entry() { if (of && uri) print uri; of = 0; uri = "" }
            /^Types:/ || !NF { entry() }
            /^URIs:/ { uri = $2 }
            /^Suites:/ { for (i = 2; i <= NF; i++) of = of || $i == suite }
            END { entry() }'
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed 's/\[[^]]*\]//' | awk -v suite="$(release)" '$1 == "deb" && $3 == suite && / main/ { print $2 }'
    } | grep -m1 . || echo http://deb.debian.org/debian
}
