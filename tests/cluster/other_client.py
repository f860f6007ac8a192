#!/usr/bin/env python3
"""A client of shardkv as somebody else would write it: MessagePack-RPC over plain sockets, with
Debian's python3-msgpack and nothing of ours. common/wire/msg_kv.h is its only manual.

`other_client.py HOST:PORT...` works on keys of its own and prints what went wrong, if anything."""
import binascii
import os
import socket
import sys
import time

import msgpack

NOT_FOUND, CONDITION_FAILED, NOT_A_NUMBER, NOT_APPLIED = 1, 2, 3, 4
WRONG_SHARD, NO_LEADER, BUSY, CROSS_SLOT, UNKNOWN_OUTCOME = 20, 23, 24, 28, 31


class Error(Exception):
    def __init__(self, error):
        self.number, self.name, self.text, self.flags, self.hints = error
        super().__init__("%d %s %s %s" % (self.number, self.name, self.text, self.hints))


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.answers = msgpack.Unpacker(raw=False, strict_map_key=False)
        self.last = 0

    def call(self, method, *params):
        self.last += 1
        self.socket.sendall(msgpack.packb([0, self.last, method, list(params)]))
        while True:
            for kind, number, error, result in self.answers:
                assert kind == 1 and number == self.last, "an answer to something else"
                if error:
                    raise Error(error)
                return result
            data = self.socket.recv(65536)
            assert data, "the connection was closed"
            self.answers.feed(data)


def slot_of(key):
    """CRC16/XMODEM of the key or of its {tag}, as Redis Cluster does it."""
    key = key if isinstance(key, bytes) else key.encode()
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    if end > start + 1:
        key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % 16384


class Cluster:
    """Knows the map, asks the leader of a key's shard, follows "that is not the leader"."""

    def __init__(self, addresses):
        self.by_address = {}
        self.map = self.connection(addresses[0]).call("map.get", {})

    def connection(self, address):
        if address not in self.by_address:
            self.by_address[address] = Connection(address)
        return self.by_address[address]

    def address(self, node):
        return next(n[4] for n in self.map["nodes"] if n[0] == node)

    def shard(self, key):
        return next(s for s in self.map["shards"] if s[1] <= slot_of(key) <= s[2])

    def call(self, key, method, *params):
        """To the shard of `key`."""
        shard = self.shard(key)
        nodes = [r[1] for r in shard[5]]
        node = next((r[1] for r in shard[5] if r[0] == shard[4]), nodes[0])
        for attempt in range(200):
            try:
                return self.connection(self.address(node)).call(method, *params)
            except Error as e:
                if not (WRONG_SHARD <= e.number <= BUSY):
                    raise
                time.sleep(e.hints.get("retry_ms", 1) / 1000)
                node = e.hints.get("leader") or nodes[attempt % len(nodes)]
        raise AssertionError("no leader of the shard of %r" % key)

    def many(self, keys):
        """mget over all shards: {key: [code, version, value, ttl]}"""
        shards, found = {}, {}
        for key in keys:
            shards.setdefault(self.shard(key)[0], []).append(key)
        for group in shards.values():
            items = self.call(group[0], "kv.mget", group)[0]
            assert len(items) == len(group)
            found.update(zip(group, items))
        return found


def refused(number, call, *args):
    try:
        result = call(*args)
    except Error as e:
        assert e.number == number, "%s, not %d" % (e, number)
        return e
    raise AssertionError("%r was not refused with %d: %r" % (args, number, result))


def single(c):
    refused(NOT_FOUND, c.call, "o:a", "kv.get", "o:a")
    first = c.call("o:a", "kv.put", "o:a", b"one")[0]
    value, version = c.call("o:a", "kv.get", "o:a")[:2]
    assert (value, version) == (b"one", first)
    second = c.call("o:a", "kv.put", "o:a", "zwei", {"ifv": first})[0]
    assert second > first
    e = refused(CONDITION_FAILED, c.call, "o:a", "kv.put", "o:a", "x", {"ifv": first})
    assert e.hints["ver"] == second and not e.flags & 1
    refused(CONDITION_FAILED, c.call, "o:a", "kv.put", "o:a", "x", {"ifa": True})
    assert c.call("o:a", "kv.delete", "o:a")[0] > second
    refused(NOT_FOUND, c.call, "o:a", "kv.get", "o:a")


def numbers(c):
    assert c.call("o:n", "kv.incr", "o:n", 5)[1] == 5
    assert c.call("o:n", "kv.incr", "o:n", -7)[1] == -2
    assert c.call("o:n", "kv.get", "o:n")[0] == b"-2"
    c.call("o:t", "kv.put", "o:t", "text")
    refused(NOT_A_NUMBER, c.call, "o:t", "kv.incr", "o:t", 1)


def expiry(c):
    c.call("o:e", "kv.put", "o:e", "v", {"ttl": 60000})
    left = c.call("o:e", "kv.get", "o:e")[2]["ttl"]
    assert 50000 < left <= 60000, left
    c.call("o:e", "kv.touch", "o:e")
    assert "ttl" not in (c.call("o:e", "kv.get", "o:e") + [{}])[2]
    c.call("o:e", "kv.touch", "o:e", {"ttl": 200})
    time.sleep(0.4)
    refused(NOT_FOUND, c.call, "o:e", "kv.get", "o:e")
    refused(NOT_FOUND, c.call, "o:e", "kv.touch", "o:e", {"ttl": 200})


def levels(c):
    version = c.call("o:l", "kv.put", "o:l", "v")[0]
    for level in (1, 2, 3):
        value, _, extra = c.call("o:l", "kv.get", "o:l",
                                 {"rd": level, "tok": version, "st": 500})
        assert level == 3 or value == b"v"
        assert extra["at"] >= version or level > 1


def batches(c):
    keys = ["o:m%d" % i for i in range(100)]
    for key in keys[:50]:
        c.call(key, "kv.put", key, key * 2)
    found = c.many(keys)
    assert all(found[k][0] == 0 and found[k][2] == (k * 2).encode() for k in keys[:50])
    assert all(found[k][0] == NOT_FOUND for k in keys[50:])
    tag = ["{o}%d" % i for i in range(4)]
    ops = [["put", tag[0], "x"], ["incr", tag[1], 3], ["put", tag[2], "y", {"ifv": 99}],
           ["delete", tag[3]]]
    items = c.call(tag[0], "kv.batch", ops, {"all": True})[0]
    assert [i[0] for i in items] == [NOT_APPLIED, NOT_APPLIED, CONDITION_FAILED, NOT_APPLIED], items
    refused(NOT_FOUND, c.call, tag[0], "kv.get", tag[0])
    items = c.call(tag[0], "kv.batch", ops)[0]
    assert [i[0] for i in items] == [0, 0, CONDITION_FAILED, 0] and items[1][2] == 3, items
    refused(CROSS_SLOT, c.call, "a", "kv.batch", [["put", "a", "1"], ["put", "b", "2"]],
            {"all": True})


def exactly_once(c):
    hello = c.connection(c.map["nodes"][0][4]).call("sys.hello", {"proto": 1})
    session = {"sid": os.urandom(16), "ack": 1, "unt": hello["time"] + hello["retain"]}
    first = c.call("o:x", "kv.incr", "o:x", 10, dict(session, seq=1))
    for _ in range(3):  # repeated: the same answer, and no effect
        assert c.call("o:x", "kv.incr", "o:x", 10, dict(session, seq=1)) == first
    second = c.call("o:x", "kv.incr", "o:x", 10, dict(session, seq=2, ack=2))
    assert second[1] == first[1] + 10
    e = refused(UNKNOWN_OUTCOME, c.call, "o:x", "kv.incr", "o:x", 10, dict(session, seq=1))
    assert e.flags & 1
    assert c.call("o:x", "kv.get", "o:x")[0] == b"20"


def main():
    c = Cluster(sys.argv[1:])
    for part in (single, numbers, expiry, levels, batches, exactly_once):
        part(c)
        print(part.__name__)


if __name__ == "__main__":
    main()
