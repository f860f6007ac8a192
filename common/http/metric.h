/* A page of metrics in Prometheus' text format (version 0.0.4).
 *
 * A family is opened once, then its samples follow. Nothing is kept between pages: counters live
 * with what they count, and the page is written from a copy of them.
 *
 *     metric_family(b, METRIC_COUNTER, "shardkv_requests_total", "Answers, by kind and result.");
 *     metric_sample(b, "shardkv_requests_total", 12, "kind", "get", "result", "ok", NULL);
 *
 * Thread: any, no sharing.  Depends on: base. */
#ifndef HTTP_METRIC_H
#define HTTP_METRIC_H

#include "common/base/latency.h"
#include "common/base/slice.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

void metric_family(struct buf *b, enum metric_kind kind, const char *name, const char *help);
/* Labels are pairs of name and value up to a NULL; values are escaped. */
void metric_sample(struct buf *b, const char *name, double value, ...) __attribute__((sentinel));
/* A family of one sample without labels. */
void metric_one(struct buf *b, enum metric_kind kind, const char *name, const char *help,
                double value);
/* A histogram in seconds, with at most one label (NULL: none). metric_family() comes first. */
void metric_latency(struct buf *b, const char *name, const struct latency *l, const char *label,
                    const char *value);
/* What every process has: build, CPU time, memory, start. */
void metric_process(struct buf *b);

#endif
