/* Printing the configuration as a TOML file that reads back to the same values. */
#include "common/base/config.h"
#include "common/base/config_value.h"

static void print_quoted(struct slice s, struct buf *b)
{
    buf_u8(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n' || c == '\t' || c == '\r')
            buf_printf(b, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else
            buf_u8(b, c);
    }
    buf_u8(b, '"');
}

static void print_list(const char *list, struct buf *b)
{
    struct slice item;
    bool first = true;
    buf_u8(b, '[');
    for (size_t it = 0; config_list_next(list, &it, &item); first = false) {
        if (!first)
            buf_printf(b, ", ");
        print_quoted(item, b);
    }
    buf_u8(b, ']');
}

static void print_value(const struct config_key *k, const void *out, struct buf *b)
{
    const char *at = (const char *)out + k->offset;
    const char *text = NULL;
    uint64_t number = 0;
    bool flag = false;
    if (k->type == CONFIG_STRING || k->type == CONFIG_STRING_LIST)
        memcpy(&text, at, sizeof(text));
    else if (k->type == CONFIG_BOOL)
        memcpy(&flag, at, sizeof(flag));
    else
        memcpy(&number, at, sizeof(number));
    switch (k->type) {
    case CONFIG_STRING:
        print_quoted(slice_str(text ? text : ""), b);
        break;
    case CONFIG_STRING_LIST:
        print_list(text ? text : "", b);
        break;
    case CONFIG_BOOL:
        buf_printf(b, "%s", flag ? "true" : "false");
        break;
    case CONFIG_UINT:
        buf_printf(b, "%llu", (unsigned long long)number);
        break;
    case CONFIG_SIZE:
        buf_u8(b, '"');
        config_value_print_size(number, b);
        buf_u8(b, '"');
        break;
    case CONFIG_DURATION_MS:
        buf_u8(b, '"');
        config_value_print_duration(number, b);
        buf_u8(b, '"');
        break;
    }
}

/* Sections in the order in which the table first names them; top-level keys come first, since TOML
 * has no way back to the top. */
void config_print(const struct config_key *keys, size_t n, const void *out, struct buf *b)
{
    for (int top = 1; top >= 0; top--) {
        for (size_t i = 0; i < n; i++) {
            const char *section = keys[i].section;
            bool printed = (section[0] == '\0') != (top == 1);
            for (size_t j = 0; j < i && !printed; j++)
                printed = strcmp(keys[j].section, section) == 0;
            if (printed)
                continue;
            if (!top)
                buf_printf(b, "%s[%s]\n", b->n ? "\n" : "", section);
            for (size_t j = i; j < n; j++) {
                if (strcmp(keys[j].section, section) != 0)
                    continue;
                if (keys[j].help)
                    buf_printf(b, "# %s\n", keys[j].help);
                buf_printf(b, "%s = ", keys[j].key);
                print_value(&keys[j], out, b);
                buf_u8(b, '\n');
            }
        }
    }
}
