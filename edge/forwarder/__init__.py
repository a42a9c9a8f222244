"""The forwarder: carries faces up to the cloud's broker and receipts down to the local one."""
