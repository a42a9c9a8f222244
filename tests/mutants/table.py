"""The mutants. Each old text must occur exactly once in its file; ``tests/test_mutants.py`` checks that."""

from tests.mutants.mutant import Edit, Mutant

_OUTBOX_FILE = "edge/detector/delivery/storage/file.py"
_ROW = "edge/detector/delivery/storage/row.py"
_TABLE = "edge/detector/delivery/storage/table.py"
_COMMITS = "edge/detector/delivery/storage/commits.py"
_DELIVERY = "edge/detector/delivery/delivery.py"
_DISPATCHER = "edge/detector/delivery/dispatcher.py"
_UNDERWAY = "edge/detector/delivery/underway.py"
_RELAY = "edge/forwarder/relay.py"
_HELD = "edge/forwarder/held.py"
_SINK = "cloud/s3sink/sink.py"
_OBJECTS = "cloud/s3sink/objects.py"
_REPLICA = "cloud/s3sink/replica.py"
_BUCKET = "cloud/s3sink/bucket.py"
_HTTP_WRITER = "cloud/s3sink/writing/http_writer.py"
_ANSWERS = "cloud/s3sink/answers.py"
_FACE = "wire/face.py"
_TOPICS = "wire/topics.py"
_CONNECTION = "wire/mqtt/connection.py"
_NETWORK_LOOP = "wire/mqtt/network_loop.py"
_PUBLICATIONS = "wire/mqtt/publications.py"
_JOINING = "cloud/pki/joining.py"
_ENROLMENT_MESSAGES = "wire/enrolment/messages.py"

OUTBOX_MUTANTS = (
    Mutant(
        "the outbox does not sync its commits",
        (
            Edit(
                _OUTBOX_FILE,
                '            self.database.execute("PRAGMA synchronous = FULL")\n',
                '            self.database.execute("PRAGMA synchronous = OFF")\n',
            ),
        ),
        "tests/test_custody.py::test_each_commit_is_on_disk_before_it_is_confirmed",
        quick=True,
    ),
    Mutant(
        "the outbox stores zeros instead of the end of the JPEG",
        (Edit(_ROW, "encode(made).pack(), made.jpeg, None", "encode(made).pack(), made.jpeg[:-38] + bytes(38), None"),),
        "tests/test_outbox.py::test_a_face_is_read_as_it_was_stored",
    ),
    Mutant(
        "the outbox does not check the digest of a row",
        (Edit(_ROW, "if self.digest is not None and self.digest != digest_of(self):", "if self.digest == b'':"),),
        "tests/test_outbox_damage.py::test_a_damaged_row_is_set_aside_for_good",
    ),
    Mutant(
        "a receipt for another camera deletes a face",
        (
            Edit(
                _TABLE,
                "DELETE FROM faces WHERE id = ? AND camera = ? RETURNING",
                "DELETE FROM faces WHERE id = ? AND ? <> 0 RETURNING",
            ),
        ),
        "tests/test_outbox.py::test_a_face_is_deleted_only_by_a_receipt_for_its_camera",
    ),
    Mutant(
        "the outbox grows beyond its limit",
        (
            Edit(
                _COMMITS,
                "is_above = storage.bytes - removed.bytes + needed > self._max_bytes",
                "is_above = storage.bytes - removed.bytes + needed > 2 * self._max_bytes",
            ),
        ),
        "tests/test_outbox.py::test_when_it_is_full_the_oldest_faces_are_dropped_and_counted",
    ),
    Mutant(
        "dropped faces are not counted",
        (Edit(_COMMITS, "        storage.dropped += len(dropped)\n", ""),),
        "tests/test_outbox.py::test_when_it_is_full_the_oldest_faces_are_dropped_and_counted",
    ),
)

DELIVERY_MUTANTS = (
    Mutant(
        "a PUBACK of the local broker deletes a face",
        (
            Edit(
                _DELIVERY,
                "self._stop.guard(lambda done: _log_refusal(face.id, done.exception())))\n",
                "lambda done: self._dispatcher.on_receipt(face.id, face.camera))\n"
                "        future.add_done_callback(lambda done: self._wake.set())\n",
            ),
        ),
        "tests/test_custody.py::test_a_puback_deletes_nothing",
        quick=True,
    ),
    Mutant(
        "an overdue face is not sent again",
        (Edit(_DISPATCHER, "            self._underway.expire()\n", ""),),
        "tests/test_dispatcher.py::test_an_overdue_face_is_sent_again_after_growing_waits",
    ),
    Mutant(
        "faces are not sent again after a reconnection",
        (Edit(_DISPATCHER, "                self._underway.hurry()\n", "                pass\n"),),
        "tests/test_dispatcher.py::test_faces_under_way_are_sent_again_after_a_reconnection",
    ),
    Mutant(
        "faces are sent while the cloud is disconnected",
        (
            Edit(
                _DISPATCHER,
                "can_send = self._is_link_up and not self._is_cloud_down",
                "can_send = self._is_link_up",
            ),
        ),
        "tests/test_dispatcher.py::test_nothing_is_sent_while_the_cloud_is_disconnected",
    ),
    Mutant(
        "OUTBOX_WINDOW is ignored",
        (
            Edit(
                _DISPATCHER,
                "max_messages=window, clock=clock",
                "max_messages=1000 * window, clock=clock",
            ),
        ),
        "tests/test_dispatcher.py::test_at_most_a_window_is_under_way",
    ),
)

_SELECTION = "edge/detector/selection"

SELECTION_MUTANTS = (
    Mutant(
        "a track runs on after a cut",
        (Edit(f"{_SELECTION}/scene.py", "self._end_tracks() if frame.after_cut else []", "[]"),),
        "tests/test_cuts.py::test_no_track_continues_over_a_cut",
    ),
    Mutant(
        "cuts are found by histograms alone",
        (
            Edit(
                f"{_SELECTION}/cuts.py",
                "distance > _MIN_SHADES_DISTANCE and _share_agreeing(before, now, blocks) < _MAX_AGREEING",
                "distance > _MIN_SHADES_DISTANCE",
            ),
        ),
        "tests/test_cuts.py::test_what_resembles_a_cut_is_none",
    ),
    Mutant(
        "the end of a first wait sends its first picture, not its best",
        (
            Edit(
                f"{_SELECTION}/best_shot.py",
                "        interval.best, interval.best_at = candidate, clock\n",
                "        if not (interval.is_first_wait and interval.best):\n"
                "            interval.best, interval.best_at = candidate, clock\n",
            ),
        ),
        "tests/test_best_shot.py::test_the_first_picture_is_the_best_one_of_a_short_wait",
    ),
    Mutant(
        "near twins are sent",
        (
            Edit(
                f"{_SELECTION}/best_shot.py",
                "if is_twin and not interval.is_far_better(quality):",
                "if is_twin and False:",
            ),
        ),
        "tests/test_best_shot.py::test_near_twins_are_not_sent",
    ),
    Mutant(
        "an interval ends on time, however new its best picture is",
        (Edit(f"{_SELECTION}/best_shot.py", "max(late, age) >= self._settled_seconds)", "late >= 0)"),),
        "tests/test_best_shot.py::test_an_interval_ends_late_while_its_pictures_get_better",
    ),
    Mutant(
        "one bad view rejects a track for ever",
        (
            Edit(
                f"{_SELECTION}/verification.py",
                "        doubt.evidence = max(doubt.evidence + log_odds, _MIN_EVIDENCE)\n",
                "        doubt.evidence += log_odds\n",
            ),
        ),
        "tests/test_verification.py::test_bad_views_for_minutes_are_outweighed_by_a_few_good_ones",
    ),
    Mutant(
        "tracks in doubt are sent",
        (
            Edit(
                f"{_SELECTION}/verification.py",
                "        if doubt.evidence < 0:\n",
                "        if doubt.evidence is None:\n",
            ),
        ),
        "tests/test_verification.py::test_a_detection_in_noise_is_rejected_counted_and_not_sent",
    ),
    Mutant(
        "noise counts as sharpness",
        (Edit(f"{_SELECTION}/quality.py", "variance - _LAPLACIAN_GAIN * noise(face) ** 2", "variance"),),
        "tests/test_quality.py::test_noise_does_not_make_a_picture_sharper",
    ),
    Mutant(
        "quality ignores the light",
        (
            Edit(
                f"{_SELECTION}/quality.py",
                "sharp / (sharp + _HALF_SHARPNESS) * exposure(face)",
                "sharp / (sharp + _HALF_SHARPNESS)",
            ),
        ),
        "tests/test_quality.py::test_each_picture_is_better_than_the_next_one",
    ),
)

FORWARDER_MUTANTS = (
    Mutant(
        "Home Assistant's announcement is not withdrawn",
        (Edit("edge/forwarder/home_assistant.py", ' if self._is_on else b""', ""),),
        "tests/home_assistant/test_announcement.py::test_it_is_withdrawn_when_it_is_switched_off",
    ),
    Mutant(
        "what Home Assistant publishes is forwarded to the cloud",
        (
            Edit(
                "edge/forwarder/home_assistant.py",
                "== BIRTH\n            return True",
                "== BIRTH\n            return False",
            ),
        ),
        "tests/home_assistant/test_announcement.py::test_what_home_assistant_publishes_is_not_for_the_cloud",
    ),
    Mutant(
        "the forwarder acknowledges a face before the cloud broker does",
        (
            Edit(
                _RELAY,
                "        if self._take_over(message, topic):\n            self._source().acknowledge(message)\n",
                "        self._take_over(message, topic)\n        self._source().acknowledge(message)\n",
            ),
        ),
        "tests/test_forwarder.py::test_a_message_is_acknowledged_after_the_cloud_broker_has_accepted_it",
        quick=True,
    ),
    Mutant(
        "a face counts as forwarded although nobody is subscribed",
        (
            Edit(
                _RELAY,
                "            elif done.result() == NO_MATCHING_SUBSCRIBERS:\n",
                "            elif done.result() == -1:\n",
            ),
            Edit(
                _RELAY,
                "        is_forwarded = error is None and not is_unheard\n",
                "        is_unheard = False\n        is_forwarded = error is None\n",
            ),
        ),
        "tests/test_forwarder.py::test_a_face_waits_for_a_subscriber_in_the_cloud",
    ),
    Mutant(
        "a refused face is acknowledged without being counted or logged",
        (
            Edit(
                _RELAY,
                "            self._refuse(held.message, str(error))\n",
                "            self._source().acknowledge(held.message)\n",
            ),
        ),
        "tests/test_forwarder.py::test_a_refused_message_is_logged_and_does_not_block_others",
    ),
    Mutant(
        "a receipt for another device deletes a face",
        (
            Edit(_TOPICS, "if not cloud_topic.startswith(prefix):", "if prefix is None:"),
            Edit(_TOPICS, "return cloud_topic.removeprefix(prefix)", 'return cloud_topic.split("/", 2)[2]'),
            Edit(_TOPICS, 'return to_cloud(device, "receipts/+")', 'return to_cloud("+", "receipts/+")'),
        ),
        "tests/test_custody.py::test_a_receipt_for_another_device_is_not_forwarded_even_if_the_broker_delivers_it",
        quick=True,
    ),
)

MQTT_MUTANTS = (
    Mutant(
        "the reason with which a broker ends a connection at once is lost",
        (
            Edit(
                _NETWORK_LOOP,
                "            self._handle_packets()  # the last one may be a DISCONNECT that says why\n"
                "            raise\n",
                "            raise\n",
            ),
        ),
        "tests/test_session.py::test_the_reason_of_a_broker_that_ends_the_connection_at_once_is_known",
    ),
    Mutant(
        "a QoS 2 message is confirmed before it is processed",
        (
            Edit(
                _CONNECTION,
                "        self._on_message(message)\n",
                "        self.acknowledge(message)\n        self._on_message(message)\n",
            ),
        ),
        "tests/test_session.py::test_a_qos_2_message_is_delivered_again_until_it_is_acknowledged",
    ),
    Mutant(
        "a refused publication counts as accepted",
        (
            Edit(
                _PUBLICATIONS,
                "        if reason_code >= MIN_FAILURE_CODE:\n            future.set_exception",
                "        if reason_code > 255:\n            future.set_exception",
            ),
        ),
        "tests/test_session.py::test_publishing_succeeds_only_if_the_broker_accepts_the_message",
    ),
    Mutant(
        "acknowledgements are sent in any order",
        (
            Edit(
                _CONNECTION,
                "            while self._unacknowledged and self._unacknowledged[0].is_acknowledged:\n"
                "                first = self._unacknowledged.popleft()\n"
                "                self._client.acknowledge(first.mid, first.qos)\n",
                "            self._unacknowledged.remove(message)\n"
                "            self._client.acknowledge(message.mid, message.qos)\n",
            ),
        ),
        "tests/test_session.py::test_messages_are_acknowledged_in_the_order_of_arrival",
    ),
    Mutant(
        "publications of a lost connection are forgotten",
        (
            Edit(
                _PUBLICATIONS,
                "        for future in lost:\n            future.set_exception(LinkLost(reason))\n",
                "        for future in lost:\n            future.set_result(0)\n",
            ),
        ),
        "tests/test_custody.py::test_a_publication_that_is_not_answered_fails_when_the_connection_ends",
    ),
    Mutant(
        "the rate of the settings is ignored",
        (Edit(_CONNECTION, "            rate=_rate_limit(endpoint),\n", ""),),
        "tests/test_iot_core.py::test_with_the_limits_as_settings_nothing_is_discarded",
    ),
    Mutant(
        "messages are sent in a burst every second",
        (Edit("wire/process/rate_limit.py", "BURST_SECONDS = 0.05", "BURST_SECONDS = 1.0"),),
        "tests/test_publications.py::test_a_rate_holds_in_every_second",
    ),
    Mutant(
        "a message that the broker discards is awaited for ever",
        (Edit("wire/mqtt/liveness.py", "UNANSWERED_SECONDS = 60.0", "UNANSWERED_SECONDS = 1e9"),),
        "tests/test_liveness.py::test_a_message_that_the_broker_discards_ends_the_connection",
    ),
    Mutant(
        "the broker's maximum QoS is ignored",
        (Edit(_CONNECTION, "min(qos, self.granted.max_qos), retain", "qos, retain"),),
        "tests/test_iot_core.py::test_the_limits_in_the_connack_are_honoured",
    ),
    Mutant(
        "the client receives although there is no room",
        (
            Edit(_NETWORK_LOOP, "if self._sock is None or not self._may_receive():\n", "if self._sock is None:\n"),
            Edit(_NETWORK_LOOP, "(select.POLLIN if self._may_receive() else 0)", "select.POLLIN"),
        ),
        "tests/test_forwarder.py::test_large_messages_fill_neither_process_nor_broker_while_the_cloud_is_away",
    ),
    Mutant(
        "the digest of a face is not checked when it arrives",
        (
            Edit(
                _FACE,
                'if attributes["sha256"] != (found := digest_of(payload)):',
                "if not (found := ''):\n            pass\n        elif found:",
            ),
        ),
        "tests/test_face.py::test_a_payload_without_the_digest_of_its_face_is_damaged",
    ),
)

SINK_MUTANTS = (
    Mutant(
        "a sink that ends does not leave its group",
        (
            Edit(
                _SINK,
                "        if self._settings.sink_group:\n            self._leave_group()\n",
                "        if not self._settings:\n            self._leave_group()\n",
            ),
        ),
        "tests/test_replicas.py::test_no_session_remains_when_the_last_sink_has_ended",
    ),
    Mutant(
        "all sinks have the same client id",
        (Edit(_REPLICA, 'f"{CLIENT_ID}-{name}"', 'f"{CLIENT_ID}-{len(name) > 0}"'),),
        "tests/test_replicas.py::test_sinks_share_the_work",
    ),
    Mutant(
        "objects are written without If-None-Match",
        (
            Edit(
                _HTTP_WRITER,
                '        if conditional:\n            headers["if-none-match"] = "*"\n',
                "",
            ),
        ),
        "tests/test_sink.py::test_a_repeated_face_is_stored_once_and_gets_another_receipt",
        quick=True,
    ),
    Mutant(
        "the sink stores zeros instead of the end of the JPEG",
        (
            Edit(_HTTP_WRITER, "        body = s3_object.body\n", "        body = s3_object.body[:-38] + bytes(38)\n"),
            Edit(
                _HTTP_WRITER, '"x-amz-content-sha256": s3_object.sha256', '"x-amz-content-sha256": "UNSIGNED-PAYLOAD"'
            ),
            Edit(_HTTP_WRITER, "        if sha256:\n", "        if not body:\n"),
        ),
        "tests/test_sink.py::test_a_face_is_stored_under_its_key_with_all_its_attributes",
    ),
    Mutant(
        "the receipt is sent before the write",
        (
            Edit(
                _SINK,
                "        try:\n            outcome = await self._bucket.write(s3_object)\n",
                "        self._session.publish(\n"
                '            s3_object.receipt_topic or "", b"", qos=1,\n'
                "            properties=Properties(correlation_data=s3_object.receipt_id),\n"
                "        )\n"
                "        try:\n            outcome = await self._bucket.write(s3_object)\n",
            ),
        ),
        "tests/test_sink.py::test_nothing_is_lost_while_s3_is_down",
    ),
    Mutant(
        "the sink acknowledges a message before the write",
        (
            Edit(
                _SINK,
                "        job = Job(message, device)\n",
                "        job = Job(message, device)\n        self._session.acknowledge(message)\n",
            ),
        ),
        "tests/test_custody.py::test_a_sink_that_is_killed_while_s3_is_down_has_acknowledged_nothing",
        quick=True,
    ),
    Mutant(
        "a valid face goes to quarantine",
        (
            Edit(
                _SINK,
                "if entry.item.has_outbox or entry.item.rescue_reason is not None:",
                "if entry.item.rescue_reason is not None:",
            ),
        ),
        "tests/test_s3_answers.py::test_a_face_that_s3_does_not_accept_is_handed_back",
    ),
    Mutant(
        "a 403 is permanent",
        (Edit(_ANSWERS, 'frozenset(("MetadataTooLarge",', 'frozenset(("AccessDenied", "MetadataTooLarge",'),),
        "tests/test_s3_answers.py::test_after_any_answer_the_face_is_stored_under_its_key[Answer.ACCESS_DENIED-own]",
    ),
    Mutant(
        "a false 412 is believed",
        (
            Edit(
                _BUCKET,
                "        if await self._is_there(s3_object):\n            return Outcome.ALREADY_THERE\n        raise",
                "        if s3_object.key:\n            return Outcome.ALREADY_THERE\n        raise",
            ),
        ),
        "tests/test_s3_answers.py::test_a_false_412_or_304_is_not_believed",
    ),
    Mutant(
        "a message that is handed back gets a receipt",
        (
            Edit(
                _SINK,
                "        self.results.handed_back(job, reason)\n",
                "        self.results.handed_back(job, reason)\n"
                "        handed = job.make_object(self._settings.s3_prefix, None)\n"
                "        receipt = Properties(correlation_data=handed.receipt_id)\n"
                '        self._session.publish(handed.receipt_topic or "", b"", qos=1, properties=receipt)\n',
            ),
        ),
        "tests/test_s3_answers.py::test_a_face_that_s3_does_not_accept_is_handed_back",
    ),
    Mutant(
        "the payload is freed although the write failed",
        (
            Edit(
                _SINK,
                "        except TemporaryFailure as error:\n            job.reason = str(error)\n",
                "        except TemporaryFailure as error:\n            job.reason = str(error)\n"
                '            job.message.payload, job.s3_object = b"", None\n',
            ),
        ),
        "tests/test_s3_answers.py::test_after_any_answer_the_face_is_stored_under_its_key[Answer.SLOW_DOWN]",
    ),
    Mutant(
        "an object of another size counts as the face",
        (
            Edit(
                _BUCKET,
                "        if size not in (None, len(s3_object.body)):\n",
                "        if size == -1:\n",
            ),
        ),
        "tests/test_s3_answers.py::test_an_object_of_another_size_gets_no_receipt",
    ),
    Mutant(
        "a damaged face gets a receipt",
        (
            Edit(
                _OBJECTS,
                "replace(make_quarantined(message, prefix, arrived_at, str(error), Kind.DAMAGED), receipt_id=None)",
                "make_quarantined(message, prefix, arrived_at, str(error), Kind.DAMAGED)",
            ),
        ),
        "tests/test_s3_answers.py::test_a_damaged_face_gets_no_receipt_and_the_intact_one_is_stored",
    ),
    Mutant(
        "S3 is not given the digest",
        (Edit(_HTTP_WRITER, "        if sha256:\n", "        if not body:\n"),),
        "tests/test_store_check.py::test_the_store_verifies_the_digest_of_each_face",
    ),
    Mutant(
        "the key contains the time of arrival",
        (
            Edit(
                _OBJECTS,
                "key=keys.of_face(prefix, origin, decoded.captured_at, decoded.id)",
                "key=keys.of_face(prefix, origin, arrived_at, decoded.id)",
            ),
            Edit(
                _OBJECTS,
                "return _make_face(message, prefix, origin, now)",
                "return _make_face(message, prefix, origin, now, arrived_at)",
            ),
            Edit(
                _OBJECTS,
                "def _make_face(message: Publication, prefix: str, origin: Origin, now: datetime | None)",
                "def _make_face(\n"
                "    message: Publication, prefix: str, origin: Origin, now: datetime | None, arrived_at: datetime\n)",
            ),
        ),
        "tests/test_sink.py::test_the_key_depends_only_on_device_camera_and_id",
    ),
    Mutant(
        "device and camera of the key come from the attributes",
        (
            Edit(
                _OBJECTS,
                "    try:\n        decoded = face.decode(message.properties, message.payload, origin)",
                '    _, _, device, _, camera = dict(message.properties.user_properties)["source"].split("/")\n'
                "    origin = Origin(device, camera)\n"
                "    try:\n        decoded = face.decode(message.properties, message.payload, origin)",
            ),
        ),
        "tests/test_sink.py::test_device_and_camera_come_from_the_topic",
    ),
    Mutant(
        "the topic of the receipt comes from the attributes",
        (
            Edit(
                _OBJECTS,
                "        receipt_topic=topics.receipts_for(message.topic),\n"
                '        receipt_id=decoded.id.encode("ascii"),\n',
                '        receipt_topic=attributes["source"].strip("/").replace("cameras", "receipts"),\n'
                '        receipt_id=decoded.id.encode("ascii"),\n',
            ),
        ),
        "tests/test_sink.py::test_device_and_camera_come_from_the_topic",
    ),
)

_GALLERY = "cloud/gallery"

GALLERY_MUTANTS = (
    Mutant(
        "the sink announces nothing",
        (
            Edit(
                _SINK,
                "            if s3_object.quarantine_reason is None:\n                self._announce(job, s3_object)\n",
                "",
            ),
        ),
        "tests/test_gallery_filling.py::test_the_sink_announces_what_it_has_stored",
    ),
    Mutant(
        "the gallery believes the key of an announcement on any topic",
        (
            Edit(
                f"{_GALLERY}/filling/announcements.py",
                "        if topics.stored(face.origin) != message.topic:\n",
                "        if not message.topic:\n",
            ),
        ),
        "tests/test_gallery_filling.py::test_the_sink_announces_what_it_has_stored",
    ),
    Mutant(
        "faces of the last millisecond of a listed page are compared too early",
        (
            Edit(
                f"{_GALLERY}/filling/comparison.py",
                "            yield complete, last\n            waiting = waiting[len(complete) :]\n",
                "            yield waiting, last\n            waiting = []\n",
            ),
        ),
        "tests/test_gallery_filling.py::test_a_day_of_more_faces_than_a_page_is_compared",
    ),
    Mutant(
        "a face that was just deleted comes back with an older listing",
        (
            Edit(
                f"{_GALLERY}/filling/comparison.py",
                " and not self._index.is_recent((origin, face_id))\n",
                "\n",
            ),
        ),
        "tests/test_gallery_filling.py::test_an_older_listing_does_not_undo_what_has_just_happened",
    ),
    Mutant(
        "the gallery does not list S3 after an interruption",
        (
            Edit(
                f"{_GALLERY}/filling/filling.py",
                '        self._compared_at = float("-inf")\n        self._wake.set()\n',
                "        self._interrupted_at = None\n",
            ),
        ),
        "tests/test_gallery_filling.py::test_no_face_is_missed_whatever_is_away",
    ),
    Mutant(
        "an object that is no JPEG is passed on",
        (Edit(f"{_GALLERY}/pictures.py", "            jpeg.check(content)\n", "            len(content)\n"),),
        "tests/test_gallery_filling.py::test_only_jpegs_are_passed_on",
        quick=True,
    ),
    Mutant(
        "a visit goes on after a gap",
        (Edit(f"{_GALLERY}/index/queries.py", "min(end, seq + _GAP)", "end"),),
        "tests/test_gallery_index.py::test_visits_are_those_of_a_simple_model",
    ),
    Mutant(
        "a changing request of a foreign page is accepted",
        (
            Edit(
                f"{_GALLERY}/web/access/origin.py",
                "    if only(fields, \"origin\") != f\"{'https' if https else 'http'}://{host}\":\n",
                '    if not only(fields, "origin"):\n',
            ),
        ),
        "tests/test_gallery_access.py::test_requests_of_foreign_pages_are_refused",
        quick=True,
    ),
    Mutant(
        "a cookie is valid after sign-out",
        (
            Edit(
                f"{_GALLERY}/web/access/ended_sessions.py",
                "issued <= self._until or session in self._ended",
                "issued <= self._until",
            ),
        ),
        "tests/test_gallery_access.py::test_an_ended_session_stays_ended_after_a_restart",
    ),
)

ENROLMENT_MUTANTS = (
    Mutant(
        "a code works for two keys",
        (Edit(_JOINING, "            if not _is_for(certificate, key):\n", "            if False:\n"),),
        "tests/test_enrolment.py::test_a_code_works_for_one_key_only",
    ),
    Mutant(
        "an expired code works",
        (Edit(_JOINING, "        if code.expires <= now():\n", "        if False:\n"),),
        "tests/test_enrolment.py::test_an_unknown_expired_replaced_or_revoked_code_gives_nothing",
    ),
    Mutant(
        "a code is looked up only outside the lock",
        (
            Edit(
                _JOINING,
                "    if authority.codes.find(request.code_key) is None:\n",
                "    code = authority.codes.find(request.code_key)\n    if code is None:\n",
            ),
            Edit(
                _JOINING,
                "        code = authority.codes.find(request.code_key)  # again",
                "        # again",
            ),
        ),
        "tests/test_enrolment.py::test_of_many_requests_at_the_same_moment_one_wins",
    ),
    Mutant(
        "the signature with the code is not checked",
        (
            Edit(
                _ENROLMENT_MESSAGES,
                "Ed25519PublicKey.from_public_bytes(self.code_key).verify(self.signature, _SIGNED + self.csr)",
                "Ed25519PublicKey.from_public_bytes(self.code_key)",
            ),
        ),
        "tests/test_enrolment.py::test_a_request_that_was_changed_on_the_way_is_refused",
    ),
    Mutant(
        "a device trusts the authority of any service",
        (Edit("edge/forwarder/join/service.py", "        if not code.is_of(ca):\n", "        if False:\n"),),
        "tests/test_join.py::test_another_authority_gets_nothing",
    ),
    Mutant(
        "revocation leaves the codes of a device",
        (
            Edit(
                "cloud/pki/authority.py",
                "            had_code = bool(self.codes.remove([device]))\n",
                "            had_code = any(code.device == device for code in self.codes.open())\n",
            ),
        ),
        "tests/test_enrolment.py::test_a_used_code_does_not_outlive_the_revocation_of_its_certificate",
    ),
    Mutant(
        "codes of a restored backup stay open",
        (
            Edit(
                "cloud/pki/authority.py",
                "self.codes.remove_all()  # one that",
                "pass  # one that",
            ),
        ),
        "tests/test_enrolment.py::test_after_a_restored_backup_every_code_is_gone",
    ),
    Mutant(
        "a list registers devices before their folders are written",
        (
            Edit("cloud/pki/fleet.py", "    atomic_files.write_all(files, device_bundle.MODE)\n", ""),
            Edit(
                "cloud/pki/fleet.py",
                "    authority.registry.forget_unregistered(*names)\n",
                "    authority.registry.forget_unregistered(*names)\n"
                "    atomic_files.write_all(files, device_bundle.MODE)\n",
            ),
        ),
        "tests/test_enrolment.py::test_a_list_that_was_interrupted_is_continued",
    ),
)

MUTANTS = (
    *OUTBOX_MUTANTS,
    *DELIVERY_MUTANTS,
    *SELECTION_MUTANTS,
    *FORWARDER_MUTANTS,
    *MQTT_MUTANTS,
    *SINK_MUTANTS,
    *GALLERY_MUTANTS,
    *ENROLMENT_MUTANTS,
)
