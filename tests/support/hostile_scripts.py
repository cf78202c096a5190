"""Scripts of jobs that spoil the files of their own jobs, by what they do."""

HOSTILE = {
    "pipe": 'rm "$UPLOAD_EVENTS_FILE"; mkfifo "$UPLOAD_EVENTS_FILE"',
    "pipes": "for file in *.log *.json events.jsonl lock; do rm -f $file; mkfifo $file; done",
    "endless": "rm -f stdout.log; ln -s /dev/zero stdout.log",
    "link": 'ln -sf /etc/passwd "$UPLOAD_EVENTS_FILE"',
    "loop": 'ln -sf "$UPLOAD_EVENTS_FILE" "$UPLOAD_EVENTS_FILE"',
    "folder": "rm -f lock stderr.log; mkdir lock stderr.log exit.json",
    "gone": 'rm -r "$PWD"',
    "file": 'cd .. && rm -r "$OLDPWD" && touch "$OLDPWD"',
    "huge": 'truncate -s 2T "$UPLOAD_EVENTS_FILE"',
    "keeper": "setsid flock lock sleep 20 > /dev/null 2>&1 &",
    "no kind": """echo '{"kind": [], "step": {}, "message": 3}' > "$UPLOAD_EVENTS_FILE" """,
    "digits": (
        f"""echo '{{"kind": "progress", "step": "x", "figures": {{"bytes_done": {"9" * 401}}}}}' """
        '> "$UPLOAD_EVENTS_FILE"; exit 3'
    ),
    "half": ("""echo '{"kind": "fail", "step": "\\ud800", "message": "\\udfff"}' >events.jsonl"""),
}
