#include "placementd/plan/planner.h"

#include "common/base/mem.h"
#include "placementd/plan/fit.h"

void plan_round(const struct plan_view *v, struct plan_list *out)
{
    struct fit f;
    fit_open(&f, v, out);
    repair_propose(&f);
    drain_propose(&f);
    leaders_leave(&f);
    spread_propose(&f);
    if (v->options.balance) {
        leaders_propose(&f);
        bytes_propose(&f);
        split_propose(&f);
    }
    fit_close(&f);
}

enum err plan_may_take(const struct plan_view *v, const struct plan_group *g, uint64_t leaving,
                       const struct plan_node *to, char *why, size_t n)
{
    struct fit f;
    uint32_t at[LIMIT_GROUP_MEMBERS], node = fit_find(v, to->id);
    int out = -1;
    for (uint32_t i = 0; g && i < g->desc->n_replicas; i++) {
        at[i] = fit_find(v, g->desc->replica[i].node);
        if (leaving != 0 && g->desc->replica[i].replica == leaving)
            out = (int)i;
    }
    fit_open_nodes(&f, v);
    enum fit_verdict verdict = fit_judge(&f, g, at, out, node, false);
    fit_explain(&f, verdict, g, node, why, n);
    fit_close(&f);
    return verdict == FIT_OK ? ERR_OK : ERR_REFUSED;
}
