#!/usr/bin/env bash
# Install what the SLURM tests need where that takes no question: as root, on a Debian or Ubuntu. Anywhere else, say in
# one line why not, and end well: the tests are skipped then, and say so too.
set -uo pipefail
packages=(slurm-wlm munge)

give_up() {
  echo "SLURM tests: $1, so they will be skipped; to run them: apt-get install ${packages[*]}"
  exit 0
}

if command -v slurmctld && command -v slurmd && command -v munged; then exit 0; fi >/dev/null
if ! command -v apt-get >/dev/null; then give_up "this system has no apt-get"; fi
if [ "$(id -u)" != 0 ]; then give_up "only root may install ${packages[*]}"; fi

said=$(mktemp)
trap 'rm -f "$said"' EXIT
# The tests start daemons of their own: the packages' are to stay down.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$said" "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
fi

apt() {
  DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq -o Acquire::http::Timeout=20 -o Acquire::Retries=1 \
    -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$said" 2>&1
}

echo "SLURM tests: installing ${packages[*]}"
if ! { apt update; apt install --yes --no-install-recommends "${packages[@]}"; }; then
  give_up "apt-get cannot install ${packages[*]} ($(grep -m1 '^E:' "$said" || echo 'out of time'))"
fi
