/* Assertions that stay on in release. Never on bytes from disk or network: those are decoded and
 * refused with an error.
 * Thread: any.  Depends on: nothing. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

/* Prints "file:line: CHECK(cond) failed in function" to stderr and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *function, const char *what);

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #cond))

#endif
