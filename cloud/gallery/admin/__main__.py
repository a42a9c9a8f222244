"""``python -m cloud.gallery.admin``: administer the gallery.

password   print the password once, or make another one
policy     print the smallest IAM policy that the gallery needs
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cloud.bucket_settings import BucketSettings
from cloud.gallery.admin import policies
from cloud.gallery.admin.settings import AdminSettings
from cloud.gallery.settings import FolderSettings
from cloud.gallery.web.access.sign_in_file import SignInFile
from wire.process.command import make_parser
from wire.process.lifecycle import Stop, exit_now, run


def main(arguments: list[str], environ: Mapping[str, str], stop: Stop) -> None:
    """Run the command in ``arguments``.

    Raises:
        ConfigurationError: a setting is wrong, or a file cannot be read or written.
    """
    options = _parser().parse_args(arguments)
    if options.command == "password":
        _password(FolderSettings.from_environment(environ).gallery_folder, is_new=options.new)
    else:
        policy = policies.gallery_policy(
            BucketSettings.from_environment(environ),
            partition=options.partition,
            may_delete=options.delete,
            kms_key=options.kms_key,
        )
        print(json.dumps(policy, indent=2))


def _password(folder: Path, *, is_new: bool) -> None:
    sign_in = SignInFile(folder)
    if is_new:
        print(sign_in.replace(), flush=True)
        print("The old password is not valid any more, and everybody is signed out.", file=sys.stderr)
        return
    sign_in.ensure()
    if not sign_in.take_password_to_show(partial(print, flush=True)):
        print("The password has been shown already. With --new, this command makes another one.", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("cloud.gallery.admin", "Shows the password, and prints the policy.", AdminSettings)
    commands = parser.add_subparsers(dest="command", required=True)
    password = commands.add_parser("password", help="print the password, once")
    password.add_argument("--new", action="store_true", help="make another password, and end all sessions")
    policy = commands.add_parser("policy", help="print the smallest IAM policy that the gallery needs")
    policy.add_argument("--delete", action="store_true", help="also allow deletion, for GALLERY_DELETE=true")
    policy.add_argument("--kms-key", metavar="ARN", help="also allow decryption with this KMS key")
    policy.add_argument("--partition", choices=("aws", "aws-cn", "aws-us-gov"), default="aws")
    return parser


if __name__ == "__main__":
    exit_now(run(partial(main, sys.argv[1:], os.environ)))
