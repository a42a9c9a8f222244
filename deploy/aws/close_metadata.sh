#!/bin/sh
# Closes the metadata service of EC2, and with it the credentials of the instance's role, to all containers but the sink: now,
# and at each start, before Docker. Run it as root. It can be run again.
set -eu
cd "$(dirname "$0")"
install -D -m 644 metadata.nft /etc/facewire/metadata.nft
install -m 644 facewire-metadata.service /etc/systemd/system/facewire-metadata.service
systemctl daemon-reload
systemctl enable --quiet facewire-metadata.service
systemctl start facewire-metadata.service
# A service that has started does not read the file again.
nft -f /etc/facewire/metadata.nft
