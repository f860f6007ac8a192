/* The table of commands: help, completion and dispatch read it. */
#include "client/ctl/ctl.h"

const struct ctl_command ctl_commands[] = {
    {"get", "KEY [--raw] [--read LEVEL]", "print the value of a key",
     "--raw prints the bytes of the value and nothing else, no newline either.\n"
     "--read linearizable (the default), session (nothing older than what this kvctl, or the "
     "--session\n"
     "FILE, has seen), bounded:500ms (at most so old) or any.\n"
     "-o json shows the version and what is left of its time to live.\n",
     cmd_get},
    {"put", "KEY VALUE|- [--ttl T] [--if-version N|--if-absent]", "set the value of a key",
     "- reads the value from standard input.\n"
     "--ttl 30s: it expires after that time (500ms, 2m, 1h, 7d); without it the value stays.\n"
     "--if-version N: only if the key's version is N.  --if-absent: only if there is no such key.\n"
     "Exit code 1 and no change if the condition does not hold.\n",
     cmd_put},
    {"del", "KEY [--if-version N]", "delete a key",
     "--if-version N: only if the key's version is N; exit code 1 if not.\n", cmd_del},
    {"cas", "KEY EXPECTED_VERSION VALUE|- [--ttl T]",
     "set a value if the key's version is as expected",
     "Version 0 stands for: there is no such key.\n", cmd_cas},
    {"incr", "KEY [DELTA] [--ttl T] [--if-version N]", "add to a number",
     "DELTA is 1 unless given, and may be negative. A key that is not there counts as 0; --ttl is "
     "for\n"
     "one that is made. Prints the sum.\n",
     cmd_incr},
    {"touch", "KEY TTL [--if-version N]", "let a value live for a time from now on",
     "TTL: 30s, 500ms, 2m, 1h, 7d. The value stays as it is.\n", cmd_touch},
    {"persist", "KEY [--if-version N]", "take away a value's time to live", NULL, cmd_persist},
    {"mget", "KEY... [--read LEVEL]", "print several values",
     "All keys are asked for at the same time. Exit code 1 if one is not there.\n", cmd_mget},
    {"export", "FILE|- [--format json|msgpack] [--resume|--replace]",
     "write all keys and values into a file",
     "One JSON object a line, or (FILE ending in .msgpack or .mp) MessagePack arrays of key, "
     "value,\n"
     "version and expiry. Each key as of some moment since the start. --resume goes on with a "
     "file\n"
     "that was not finished, from its last whole record.\n",
     cmd_export},
    {"import", "FILE|- [--format json|msgpack] [--if-absent] [--from N]",
     "put the keys and values of a file",
     "What export writes. Keys that have expired since are left out; versions are given anew.\n"
     "--if-absent: keys that are there stay as they are. --from N: the first N records are done.\n",
     cmd_import},
    {"verify linear",
     "[--for 10s] [--clients 8] [--keys 5] [--rate 500] [--prefix P] [--history FILE] [--keep]",
     "check on the live cluster that its answers are linearizable",
     "Puts, gets, deletes and compare-and-set of a few keys of its own (--prefix kvctl-verify:,\n"
     "deleted in the end unless --keep), at --rate operations a second; then judges the history.\n"
     "Exit code 1 with the few operations that contradict each other if it is not linearizable.\n"
     "--history FILE writes it as JSON lines.\n",
     cmd_verify_linear},
    {"locate", "KEY", "show the slot, group, leader and replicas of a key", NULL, cmd_locate},
    {"status", "", "health of the cluster at a glance; exit code 1 unless it is ok", NULL,
     cmd_status},
    {"nodes", "", "list the nodes", NULL, cmd_nodes},
    {"groups", "", "list the groups and their replicas", NULL, cmd_groups},
    {"hot", "", "list the groups with the most load", NULL, cmd_hot},
    {"why", "KEY|GROUP|OPERATOR|NODE | --key KEY",
     "say what goes on with something, what it waits for, and why",
     "g7 is a group, 12 an operator, a node goes by its name; anything else is a key.\n", cmd_why},
    {"node list", "", "list the nodes", NULL, cmd_node_list},
    {"node show", "NODE", "show a node, its replicas and what goes on with it", NULL,
     cmd_node_show},
    {"node drain", "NODE [--plan] [--detach]", "move everything away from a node",
     "Refused at once if it cannot succeed: room, spread over hosts and zones, quorum.\n"
     "--plan only says what would move. --detach does not wait until the node is empty; the same\n"
     "command again goes on waiting.\n",
     cmd_node_drain},
    {"node undrain", "NODE", "let a node take part again", NULL, cmd_node_undrain},
    {"node remove", "NODE", "remove a node that is drained, or lost, for good",
     "Its id is never used again; its data directory has to be emptied before it can join anew.\n",
     cmd_node_remove},
    {"node maintenance", "NODE --for 30m | --off",
     "do not replace a node's replicas while it is down",
     "For a restart or a repair: the node may be away for so long, and nothing moves to it.\n",
     cmd_node_maintenance},
    {"group list", "", "list the groups and their replicas", NULL, cmd_group_list},
    {"group show", "GROUP", "show a group, its replicas and what goes on with it", NULL,
     cmd_group_show},
    {"group split", "GROUP [--at SLOT] [--plan] [--detach]", "split a group's range of slots",
     "SLOT is the first one of the new group; without it the middle is taken.\n", cmd_group_split},
    {"group merge", "GROUP INTO [--plan] [--detach]", "merge a group into its neighbour",
     "If their replicas are not on the same nodes they are moved together first.\n",
     cmd_group_merge},
    {"group transfer-leader", "GROUP NODE [--plan] [--detach]", "hand leadership to a node", NULL,
     cmd_group_transfer},
    {"group move-replica", "GROUP FROM TO [--plan] [--detach]", "move a replica between nodes",
     NULL, cmd_group_move},
    {"group add-replica", "GROUP NODE [--plan] [--detach]", "give a group one more replica", NULL,
     cmd_group_add},
    {"group remove-replica", "GROUP NODE [--plan] [--detach]", "take a replica from a group", NULL,
     cmd_group_remove},
    {"rebalance plan", "", "show what balancing would do", NULL, cmd_rebalance_plan},
    {"rebalance apply", "PLAN [--detach]", "do what a plan says",
     "Refused if the topology has changed since the plan was made.\n", cmd_rebalance_apply},
    {"rebalance status", "", "show what is under way and how much is left", NULL,
     cmd_rebalance_status},
    {"rebalance watch", "", "follow what is under way to its end; ^C detaches", NULL,
     cmd_rebalance_watch},
    {"rebalance pause", "", "stop balancing; repair and drains go on", NULL, cmd_rebalance_pause},
    {"rebalance resume", "", "balance again", NULL, cmd_rebalance_resume},
    {"rebalance cancel", "", "take back what is under way, as far as possible", NULL,
     cmd_rebalance_cancel},
    {"operator list", "", "list the operators under way and those that ended lately", NULL,
     cmd_operator_list},
    {"operator cancel", "ID | --all", "take an operator back", NULL, cmd_operator_cancel},
    {"doctor disk", "[--dir D] [--seconds S]", "measure how fast a disk makes writes durable",
     "Writes 4 KiB and calls fdatasync, again and again, in a file of its own below D (default: "
     "the\n"
     "current directory), which is removed afterwards.\n",
     cmd_doctor},
    {"cluster init", "[--groups N] [--replicas 1|3|5]", "lay out a new cluster's groups, once",
     NULL, cmd_cluster_init},
    {"cluster members", "", "list the members of placementd", NULL, cmd_cluster_members},
    {"cluster member add", "ID IP:PORT", "add a member to placementd",
     "ID was never used before; IP:PORT is where it listens for the other members.\n"
     "Start it with cluster.join=true and an empty data directory; it gets a vote once it has "
     "caught\n"
     "up, and together with another one where its vote alone would make an even number.\n",
     cmd_member_add},
    {"cluster member remove", "ID", "remove a member of placementd for good", NULL,
     cmd_member_remove},
    {"cluster map export", "FILE|-", "write placementd's whole state into a file", NULL,
     cmd_map_export},
    {"cluster map import", "FILE|-", "give a placementd without groups the state of a file", NULL,
     cmd_map_import},
    {"cluster recover", "[--lost NODE,NODE...] [--plan]",
     "go on without nodes, or without placementd's state, that are lost for good",
     "--plan only says what would be done, and what is missing.\n"
     "--lost    these nodes will never come back: groups that lose their majority with them go on\n"
     "          with the survivor that has most; what only the lost ones had is given up. Refused\n"
     "          while one of them is heard, or a survivor is not\n"
     "Without --lost, for a placementd that was lost whole and made anew (empty directories, same\n"
     "addresses): it takes over the cluster of the nodes that knock, and makes the map from what\n"
     "they have. A node that is missing is given up by its number: --lost 4\n",
     cmd_cluster_recover},
    {"cluster rolling-restart", "[--node NODE]... [--command CMD] [--dir D] [--plan]",
     "restart the nodes one after the other, without losing service",
     "Of each node: maintenance on, leaderships handed away, restarted, waited for until all its\n"
     "replicas have caught up. Stops with the reason if the cluster is not healthy.\n"
     "A playground's processes (--dir, ./run) are restarted by kvctl itself. Elsewhere CMD is run\n"
     "by the shell, {node}, {host} and {address} replaced: --command 'ssh {node} systemctl "
     "restart\n"
     "shardd'. Without CMD you are asked to do it.\n",
     cmd_rolling_restart},
    {"playground", "start [NAME] | stop [NAME] | kill NAME | status | destroy  [options]",
     "a local cluster of separate processes",
     "start    starts what is not running; with a larger --nodes or --placements it grows;\n"
     "         NAME: that process alone\n"
     "stop     stops all processes, or NAME (p1.. placementd, n1.. shardd)\n"
     "kill     kills NAME as a power cut would: nothing is handed over\n"
     "status   shows the processes\n"
     "destroy  stops all and removes the directory\n"
     "--nodes N (3)  --groups N (8)  --cores N (1 core thread a node)  --dir D (./run)\n"
     "--placements N (3): members of placementd: 1, 3 or 5 at first; later those ever made\n"
     "--base-port N (7000): nodes listen on N+1.., placementd on N+101.., for each other on "
     "N+201..\n"
     "and N+301..\n"
     "--set SECTION.KEY=VALUE  a setting of placementd ([placement]), of all ([log]) or of the\n"
     "nodes (any other section); kept for later starts; what runs is not changed by it.\n"
     "         placement.down-after=30s replaces the replicas of a silent node after 30 s, not 10 "
     "m\n",
     cmd_playground},
    {"shell", "", "type commands, with history and completion", NULL, cmd_shell},
};
const size_t ctl_n_commands = sizeof(ctl_commands) / sizeof(ctl_commands[0]);
