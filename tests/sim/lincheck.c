/* lincheck [--budget STEPS] [FILE]: is a recorded history linearizable?
 *
 * Reads JSON lines (see tests/README.md) from FILE or standard input. Exit code: 0 it is, 1 it is
 * not (the operations that contradict each other are printed), 2 usage or input, 3 undecided. */
#include <stdlib.h>
#include <string.h>

#include "common/lin/history.h"

int main(int argc, char **argv)
{
    uint64_t budget = 50000000;
    const char *path = NULL;
    struct history h;
    char msg[256];
    FILE *in = stdin;
    enum lin_verdict v;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--budget") == 0 && i + 1 < argc) {
            budget = strtoull(argv[++i], NULL, 10);
        } else if (argv[i][0] == '-' || path) {
            fprintf(stderr, "usage: lincheck [--budget STEPS] [FILE]\n");
            return 2;
        } else {
            path = argv[i];
        }
    }
    if (path && !(in = fopen(path, "r"))) {
        perror(path);
        return 2;
    }
    history_init(&h);
    if (history_read(&h, in, msg, sizeof msg) != ERR_OK) {
        fprintf(stderr, "lincheck: %s\n", msg);
        return 2;
    }
    v = history_check(&h, budget, stdout);
    printf("%s: %zu operations on %zu keys; %u ok, %u failed, %u unknown\n",
           v == LIN_OK    ? "linearizable"
           : v == LIN_BAD ? "NOT linearizable"
                          : "undecided",
           h.n, h.keys.n, history_count(&h, HISTORY_OK), history_count(&h, HISTORY_FAIL),
           history_count(&h, HISTORY_INFO) + history_count(&h, HISTORY_OPEN));
    history_close(&h);
    if (in != stdin)
        fclose(in);
    return v == LIN_OK ? 0 : v == LIN_BAD ? 1 : 3;
}
