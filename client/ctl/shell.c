/* shell: a line at a time through the same commands, with libedit's history and completion. */
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"

#define WORDS_MAX 64

static char *prompt(EditLine *el)
{
    static char text[] = "kv> ";
    (void)el;
    return text;
}

/* Completes the first word. */
static unsigned char complete(EditLine *el, int ch)
{
    const LineInfo *li = el_line(el);
    size_t n = (size_t)(li->cursor - li->buffer), found = 0;
    const char *match = NULL;
    (void)ch;
    for (size_t i = 0; i < ctl_n_commands; i++) {
        if (strncmp(ctl_commands[i].name, li->buffer, n) == 0) {
            match = ctl_commands[i].name;
            found++;
        }
    }
    if (found != 1)
        return CC_REFRESH_BEEP;
    el_insertstr(el, match + n);
    el_insertstr(el, " ");
    return CC_REFRESH;
}

/* Splits in place, with quotes and backslashes. -1: a quote is not closed, or too many words. */
static int split(char *line, char **words)
{
    int n = 0;
    char *p = line, *o;
    for (;;) {
        while (*p == ' ' || *p == '\t' || *p == '\n')
            p++;
        if (!*p)
            return n;
        if (n == WORDS_MAX)
            return -1;
        char quote = 0;
        words[n++] = o = p;
        for (; *p && (quote || (*p != ' ' && *p != '\t' && *p != '\n')); p++) {
            if (quote ? *p == quote : *p == '"' || *p == '\'')
                quote = quote ? 0 : *p;
            else if (*p == '\\' && p[1] && quote != '\'')
                *o++ = *++p;
            else
                *o++ = *p;
        }
        if (quote)
            return -1;
        bool end = !*p;
        *o = '\0';
        if (end)
            return n;
        p++;
    }
}

/* False: leave. */
static bool run_line(struct ctl *ctl, char *line, int *code)
{
    char *words[WORDS_MAX + 1] = {0};
    int n = split(line, words);
    if (n < 0)
        *code = ctl_usage(ctl, "", "a quote is not closed, or there are too many words");
    if (n <= 0)
        return true;
    if (strcmp(words[0], "exit") == 0 || strcmp(words[0], "quit") == 0)
        return false;
    if (strcmp(words[0], "help") == 0) {
        for (size_t i = 0; i < ctl_n_commands; i++)
            printf("  %s %s\n", ctl_commands[i].name, ctl_commands[i].args);
        return true;
    }
    if (strcmp(words[0], "shell") == 0)
        return true;
    *code = ctl_dispatch(ctl, n, words);
    fflush(stdout);
    return true;
}

static int run_pipe(struct ctl *ctl)
{
    char line[65536];
    int code = CTL_OK;
    while (fgets(line, sizeof(line), stdin) && run_line(ctl, line, &code))
        continue;
    return code;
}

int cmd_shell(struct ctl *ctl, int argc, char **argv)
{
    int code = CTL_OK, n;
    HistEvent ev;
    if (argc > 1)
        return ctl_usage(ctl, "shell", "what is '%s'?", argv[1]);
    ctl->in_shell = true;
    if (!isatty(STDIN_FILENO))
        return run_pipe(ctl);
    EditLine *el = el_init("kvctl", stdin, stdout, stderr);
    History *h = history_init();
    if (!el || !h)
        return ctl_fail(ctl, CTL_SERVER, "TERMINAL", NULL, "the terminal cannot be used");
    history(h, &ev, H_SETSIZE, 1000);
    history(h, &ev, H_SETUNIQUE, 1);
    el_set(el, EL_PROMPT, prompt);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_HIST, history, h);
    el_set(el, EL_ADDFN, "kv-complete", "complete the command", complete);
    el_set(el, EL_BIND, "^I", "kv-complete", NULL);
    for (const char *line; (line = el_gets(el, &n)) && n > 0;) {
        char *copy = strdup(line);
        if (!copy)
            abort();
        if (line[0] != '\n')
            history(h, &ev, H_ENTER, line);
        bool more = run_line(ctl, copy, &code);
        free(copy);
        if (!more)
            break;
    }
    history_end(h);
    el_end(el);
    return CTL_OK;
}
