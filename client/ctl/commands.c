/* The table of commands: help, completion and dispatch read it. */
#include "client/ctl/ctl.h"

const struct ctl_command ctl_commands[] = {
    {"get", "KEY [--raw]", "print the value of a key",
     "--raw prints the bytes of the value and nothing else, no newline either.\n", cmd_get},
    {"put", "KEY VALUE|- [--if-version N|--if-absent]", "set the value of a key",
     "- reads the value from standard input.\n"
     "--if-version N: only if the key's version is N.  --if-absent: only if there is no such key.\n"
     "Exit code 1 and no change if the condition does not hold.\n",
     cmd_put},
    {"del", "KEY [--if-version N]", "delete a key", NULL, cmd_del},
    {"cas", "KEY EXPECTED_VERSION VALUE|-", "set a value if the key's version is as expected",
     "Version 0 stands for: there is no such key.\n", cmd_cas},
    {"mget", "KEY...", "print several values", NULL, cmd_mget},
    {"locate", "KEY", "show the slot, group, leader and replicas of a key", NULL, cmd_locate},
    {"status", "", "health of the cluster at a glance; exit code 1 unless it is ok", NULL,
     cmd_status},
    {"nodes", "", "list the nodes", NULL, cmd_nodes},
    {"groups", "", "list the groups and their replicas", NULL, cmd_groups},
    {"doctor disk", "[--dir D] [--seconds S]", "measure how fast a disk makes writes durable",
     "Writes 4 KiB and calls fdatasync, again and again, in a file of its own below D (default: "
     "the\n"
     "current directory), which is removed afterwards.\n",
     cmd_doctor},
    {"cluster init", "[--groups N] [--replicas 3]", "lay out a new cluster's groups, once", NULL,
     cmd_cluster_init},
    {"playground", "start [NAME] | stop [NAME] | status | destroy  [options]",
     "a local cluster of separate processes",
     "start    starts what is not running; with a larger --nodes it grows; NAME: that process "
     "alone\n"
     "stop     stops all processes, or NAME (p1.. placementd, n1.. shardd)\n"
     "status   shows the processes\n"
     "destroy  stops all and removes the directory\n"
     "--nodes N (3)  --groups N (8)  --cores N (1 core thread a node)  --dir D (./run)\n"
     "--base-port N (7000): nodes listen on N+1.., placementd on N+101.., for each other on "
     "N+201..\n"
     "and N+301..\n",
     cmd_playground},
    {"shell", "", "type commands, with history and completion", NULL, cmd_shell},
};
const size_t ctl_n_commands = sizeof(ctl_commands) / sizeof(ctl_commands[0]);
