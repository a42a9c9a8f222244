"""The forwarder: forwards faces to the cloud broker and receipts to the local broker."""
