/* The server over real sockets on loopback, and a question to a loop that does not answer. */
#include "common/http/http.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http/ask.h"

static void answer(void *arg, const char *path, bool verbose, struct http_reply *reply)
{
    unsigned *calls = arg;
    ++*calls;
    if (strcmp(path, "/x") == 0)
        buf_printf(&reply->body, "x%s", verbose ? " verbose" : "");
    else
        http_not_found(reply, "/x");
}

static struct io_addr loopback(void)
{
    struct io_addr a;
    ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &a), ERR_OK);
    return a;
}

/* The whole answer, NUL-terminated. */
static void request(const struct http *h, const char *text, char *out, size_t cap)
{
    struct io_addr addr;
    http_addr(h, &addr);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(addr.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert_int_eq(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
    size_t n = 0;
    ssize_t got;
    while (n + 1 < cap && (got = recv(fd, out + n, cap - 1 - n, 0)) > 0)
        n += (size_t)got;
    out[n] = 0;
    close(fd);
}

START_TEST(answers_get_and_head_only)
{
    struct http *h;
    char msg[256], out[4096];
    unsigned calls = 0;
    struct io_addr addr = loopback();
    ck_assert_int_eq(http_start(&addr, answer, &calls, &h, msg, sizeof(msg)), ERR_OK);
    request(h, "GET /x HTTP/1.0\r\n\r\n", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, " 200 "));
    ck_assert_ptr_nonnull(strstr(out, "\r\n\r\nx"));
    request(h, "GET /x?verbose HTTP/1.0\r\n\r\n", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, "\r\n\r\nx verbose"));
    request(h, "GET /nothing HTTP/1.0\r\n\r\n", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, " 404 "));
    request(h, "HEAD /x HTTP/1.0\r\n\r\n", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, " 200 "));
    ck_assert_uint_eq(calls, 4);
    request(h, "POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", out, sizeof(out));
    ck_assert_ptr_nonnull(strstr(out, " 405 "));
    ck_assert_uint_eq(calls, 4);
    http_stop(h);
}
END_TEST

START_TEST(names_a_port_in_use)
{
    struct http *h, *other = NULL;
    char msg[256] = "", text[64];
    unsigned calls = 0;
    struct io_addr addr = loopback();
    ck_assert_int_eq(http_start(&addr, answer, &calls, &h, msg, sizeof(msg)), ERR_OK);
    http_addr(h, &addr);
    ck_assert_uint_ne(addr.port, 0);
    io_addr_format(&addr, text);
    ck_assert_int_eq(http_start(&addr, answer, &calls, &other, msg, sizeof(msg)),
                     ERR_ADDRESS_IN_USE);
    ck_assert_ptr_nonnull(strstr(msg, text));
    ck_assert_ptr_null(other);
    http_stop(h);
    http_stop(NULL);
}
END_TEST

static unsigned released;

static void release(void *data)
{
    released++;
    free(data);
}

static void *answer_later(void *arg)
{
    usleep(20000);
    *(int *)ask_data(arg) = 7;
    ask_answer(arg);
    return NULL;
}

START_TEST(ask_waits_for_all_parts)
{
    pthread_t t;
    released = 0;
    struct ask *a = ask_create(1, calloc(1, sizeof(int)), release);
    ck_assert_int_eq(pthread_create(&t, NULL, answer_later, a), 0);
    ck_assert(ask_wait(a, 5000));
    ck_assert_int_eq(*(int *)ask_data(a), 7);
    ask_release(a);
    pthread_join(t, NULL);
    ck_assert_uint_eq(released, 1);
}
END_TEST

/* The asker gives up; the data stays until the loop has answered. */
START_TEST(ask_gives_up)
{
    released = 0;
    struct ask *a = ask_create(2, calloc(1, sizeof(int)), release);
    ask_answer(a);
    ck_assert(!ask_wait(a, 10));
    ask_release(a);
    ck_assert_uint_eq(released, 0);
    ask_answer(a);
    ck_assert_uint_eq(released, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http");
    TCase *t = tcase_create("http");
    tcase_add_test(t, answers_get_and_head_only);
    tcase_add_test(t, names_a_port_in_use);
    tcase_add_test(t, ask_waits_for_all_parts);
    tcase_add_test(t, ask_gives_up);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
