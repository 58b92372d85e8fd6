#!/bin/sh
# What the last stage of every image does first, in one layer that images with the same arguments share:
#
#     prepare.sh [debian package...]
#
# It installs these Debian packages, makes the user and its folders, and takes the base image's installers away.
set -eu

if ! command -v python3 >/dev/null; then set -- python3 "$@"; fi # a CUDA base brings none
if [ $# -gt 0 ]; then
    mkdir -p /usr/share/man/man1 # slim images have no manual pages, where Java's package puts links
    apt-get update
    apt-get install -y --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
fi
for java in /usr/lib/jvm/java-*-openjdk-*; do # the folder's name holds Java's version and the machine's kind
    if [ -d "$java" ]; then ln -sfn "$java" /opt/java; fi
done

groupadd --gid 10001 airloop
useradd --uid 10001 --gid airloop --home-dir /scratch --no-create-home --shell /usr/sbin/nologin airloop
# Volumes take their owner from these folders.
install -d -o airloop -g airloop -m 0770 /scratch /var/lib/airloop

find / -xdev \( -path '*-packages/pip*' -o -path '*-packages/setuptools*' -o -path '*-packages/wheel*' -o -path '*-packages/pkg_resources*' \
    -o -path '*-packages/*distutils*' -o -path '*/ensurepip' -o -path '*/bin/pip*' -o -path '*/bin/wheel' -o -path '*/python-wheels' \) \
    -not -path '/proc/*' -prune -exec rm -rf {} +
