/* Runs a fuzz target over the given files, so that any compiler's build can repeat the corpus and
 * whatever a fuzzer has found. Each input is then cut at every length and has every byte changed
 * once (inputs up to SWEEP bytes): cheap, deterministic, and finds most reads past an end under
 * asan. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX ((size_t)64 << 20)
#define SWEEP ((size_t)4096)

/* In an allocation of exactly its size: asan sees the first byte past it. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void sweep(uint8_t *data, size_t n)
{
    static const uint8_t changes[] = {0x01, 0x80, 0xff};
    for (size_t cut = 0; cut < n; cut++)
        run(data, cut);
    for (size_t at = 0; at < n; at++) {
        for (size_t c = 0; c < sizeof(changes); c++) {
            data[at] ^= changes[c];
            run(data, n);
            data[at] ^= changes[c];
        }
    }
}

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t n = 0, cap = 4096;
    uint8_t *data = malloc(cap);
    while (data && n < INPUT_MAX) {
        size_t got = fread(data + n, 1, cap - n, f);
        if (got == 0)
            break;
        n += got;
        if (n == cap)
            data = realloc(data, cap *= 2);
    }
    fclose(f);
    if (!data)
        return 1;
    run(data, n);
    if (n <= SWEEP)
        sweep(data, n);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%s: %d inputs replayed\n", argv[0], argc - 1);
    return failed || argc < 2;
}
