"""``python -m cloud.s3sink.admin``: administer the bucket. The sink itself may not do any of it.

policy     print the smallest IAM policy that the sink needs
lifecycle  print a lifecycle configuration that deletes faces after some days
delete     delete the faces of a device, a camera or a day, or a single face
release    store the valid faces and pictures that are in quarantine, and delete them there

and the session at the broker of a sink without a group:

end-session  end it, with the messages that wait in it
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
from prometheus_client import CollectorRegistry

from cloud.s3_errors import NO_USABLE_ANSWER, reason_of
from cloud.s3sink.admin import deletion, policies, release
from cloud.s3sink.answers import TemporaryFailure
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.replica import CLIENT_ID
from cloud.s3sink.settings import SinkSettings, WriteSettings
from wire import topics
from wire.errors import ConfigurationError, FacewireError
from wire.exit_codes import ExitCode
from wire.mqtt.broker_check import connect_once
from wire.process.command import make_parser
from wire.process.lifecycle import Stop, exit_now, run


def main(arguments: list[str], environ: Mapping[str, str], stop: Stop) -> None:
    """Run the command in ``arguments``.

    Raises:
        ConfigurationError: a setting is wrong, or S3 denies the request.
    """
    options = _parser().parse_args(arguments)
    if options.command == "end-session":
        _end_session(SinkSettings.from_environment(environ))
        return
    settings = WriteSettings.from_environment(environ)
    if options.command == "policy":
        print(json.dumps(policies.sink_policy(settings, options.partition), indent=2))
    elif options.command == "lifecycle":
        print(json.dumps(policies.lifecycle(settings, options.days), indent=2))
    elif options.command == "release":
        _release(settings, options.device)
    else:
        _delete(settings, options)


def _end_session(settings: SinkSettings) -> None:
    """Connect once with the id of a sink without a group. The session that begins then ends at once."""
    try:
        connect_once(settings.cloud_endpoint(), CLIENT_ID)
    except FacewireError as error:
        raise ConfigurationError(f"{settings.cloud_endpoint()}: {error}", ExitCode.UNAVAILABLE) from None
    print(f"the broker keeps no messages for {CLIENT_ID} any more", file=sys.stderr)


def _release(settings: WriteSettings, device: str | None) -> None:
    released = kept = 0
    try:
        bucket = Bucket(settings, CollectorRegistry())
        bucket.check_store()
        for result in release.release(bucket, settings, device):
            print(result)
            released, kept = released + result.is_released, kept + (not result.is_released)
        print(f"{released} released, {kept} stay in quarantine", file=sys.stderr)
    except (*NO_USABLE_ANSWER, TemporaryFailure) as error:
        reason = reason_of(error)
        raise ConfigurationError(f"S3_BUCKET is '{settings.s3_bucket}': {reason}", ExitCode.NO_PERMISSION) from None


def _delete(settings: WriteSettings, options: argparse.Namespace) -> None:
    criteria = deletion.Criteria(options.device, options.camera, options.date, options.face)
    if criteria == deletion.Criteria():
        raise ConfigurationError("delete: expected --device, --camera, --date or --face")
    bucket, prefix = settings.s3_bucket, settings.s3_prefix
    try:
        client = boto3.client("s3")
        if options.yes:
            deleted = deletion.delete(client, bucket, deletion.find(client, bucket, prefix, criteria))
            print(f"{deleted} deleted")
            return
        count = size = 0
        for version in deletion.find(client, bucket, prefix, criteria):
            print(f"s3://{bucket}/{version.key}")
            count, size = count + 1, size + version.size
        print(f"{count} objects, {size} bytes. Nothing has been deleted; to delete them, add --yes", file=sys.stderr)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise ConfigurationError(f"S3_BUCKET is '{bucket}': {error}", ExitCode.NO_PERMISSION) from None


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("cloud.s3sink.admin", "Prints policies, deletes faces, and empties quarantine.", WriteSettings)
    commands = parser.add_subparsers(dest="command", required=True)
    policy = commands.add_parser("policy", help="print the smallest IAM policy that the sink needs")
    policy.add_argument("--partition", choices=("aws", "aws-cn", "aws-us-gov"), default="aws")
    lifecycle = commands.add_parser(
        "lifecycle", help="print a lifecycle configuration that deletes faces after some days"
    )
    lifecycle.add_argument("--days", type=_days, required=True, help="days until a face is deleted")
    delete = commands.add_parser("delete", help="delete faces; without --yes, only list them")
    delete.add_argument("--device", type=_name, help="only faces of this device, including those in quarantine")
    delete.add_argument("--camera", type=_name, help="only faces of this camera")
    delete.add_argument("--date", type=_date, help="only faces of this day, as in the key: 2026-11-22")
    delete.add_argument("--face", help="only the face with this id, as in the key")
    released = commands.add_parser("release", help="store valid faces and pictures from quarantine, delete them there")
    released.add_argument("--device", type=_name, help="only messages of this device")
    commands.add_parser(
        "end-session", help="end the session of a sink without a group, after a change to a group. Stop that sink first"
    )
    delete.add_argument("--yes", action="store_true", help="delete the faces instead of listing them")
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
    exit_now(run(partial(main, sys.argv[1:], os.environ)))
