"""``python -m cloud.s3sink.admin``: what an operator does with the bucket. The sink itself can do none of it.

policy     print the IAM policy with which the sink works, and without any of whose statements it does not
lifecycle  print a lifecycle by which faces are deleted after some days
delete     delete a device's faces, a day's, or a single one
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import date
from functools import partial

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cloud.s3sink.admin import deletion, policies
from cloud.s3sink.settings import BucketSettings
from wire import topics
from wire.errors import ConfigurationError, ExitCode
from wire.process.command import make_parser
from wire.process.lifecycle import Stop, leave, run


def main(arguments: list[str], environ: Mapping[str, str], stop: Stop) -> None:
    """Do what ``arguments`` ask for.

    Raises:
        ConfigurationError: a setting is wrong, or S3 does not let us.
    """
    asked = _parser().parse_args(arguments)
    settings = BucketSettings.from_environment(environ)
    if asked.command == "policy":
        print(json.dumps(policies.sink_policy(settings, asked.partition), indent=2))
    elif asked.command == "lifecycle":
        print(json.dumps(policies.lifecycle(settings, asked.days), indent=2))
    else:
        _delete(settings, asked)


def _delete(settings: BucketSettings, asked: argparse.Namespace) -> None:
    choice = deletion.Choice(asked.device, asked.camera, asked.date, asked.face)
    if choice == deletion.Choice():
        raise ConfigurationError("delete: expected --device, --camera, --date or --face, lest everything goes")
    bucket, prefix = settings.s3_bucket, settings.s3_prefix
    try:
        client = boto3.client("s3")
        if asked.yes:
            deleted = deletion.delete(client, bucket, deletion.find(client, bucket, prefix, choice))
            print(f"{deleted} deleted")
            return
        count = size = 0
        for found in deletion.find(client, bucket, prefix, choice):
            print(f"s3://{bucket}/{found.key}")
            count, size = count + 1, size + found.size
        print(f"{count} objects, {size} bytes. Nothing is deleted yet: say --yes", file=sys.stderr)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise ConfigurationError(f"S3_BUCKET is '{bucket}': {error}", ExitCode.NO_PERMISSION) from None


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("cloud.s3sink.admin", "Prints policies for the bucket, and deletes faces.", BucketSettings)
    commands = parser.add_subparsers(dest="command", required=True)
    policy = commands.add_parser("policy", help="print the IAM policy that the sink needs, and no more")
    policy.add_argument("--partition", choices=("aws", "aws-cn", "aws-us-gov"), default="aws")
    lifecycle = commands.add_parser("lifecycle", help="print a lifecycle that deletes faces after some days")
    lifecycle.add_argument("--days", type=_days, required=True, help="how long a face is kept")
    delete = commands.add_parser("delete", help="delete faces; without --yes: list them")
    delete.add_argument("--device", type=_name, help="all of a device's, those in quarantine too")
    delete.add_argument("--camera", type=_name, help="of this camera only")
    delete.add_argument("--date", type=_date, help="of this day only, as in the key: 2026-11-22")
    delete.add_argument("--face", help="the one with this id, which ends its key")
    delete.add_argument("--yes", action="store_true", help="delete, instead of only listing")
    return parser


def _name(text: str) -> str:
    if not topics.is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a name ({topics.NAME_PATTERN})")
    return text


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a day such as 2026-11-22") from None


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= policies.MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected days, from 1 to {policies.MAX_DAYS}")
    return int(text)


if __name__ == "__main__":
    leave(run(partial(main, sys.argv[1:], os.environ)))
