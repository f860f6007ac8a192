/* Methods that operators call (kvctl): what they ask, how they are answered. Leader only.
 *
 * Each takes one params map and answers a map that goes to JSON one to one (ids as integers; kvctl makes
 * strings of them). Nodes are named by name or id, groups by id. "plan": true only says what would
 * happen. A refusal (ERR_REFUSED) says why in the error's text.
 *
 *   admin.node       {"action":"drain"|"undrain"|"remove"|"maintenance", "node", "for_ms"?, "plan"?}
 *       -> {"node","state", "ops":[op...], "bytes","seconds","lowest_voters","nodes":[load...]}
 *   admin.group      {"action":"split"|"merge"|"transfer-leader"|"move-replica"|"add-replica"|
 *                     "remove-replica", "group", "slot"?, "into"?, "from"?, "to"?, "plan"?}
 *       -> {"operators":[id...], "ops":[op...]}       slot absent: the middle of the range
 *   admin.rebalance  {"action":"plan"|"apply"|"status"|"pause"|"resume"|"cancel", "plan"?}
 *       plan   -> {"plan":hex id,"version":map version,"ops":[op...],"bytes","seconds","rate","at_a_time",
 *                  "lowest_voters","nodes":[load...]}
 *       apply  -> {"operators":[id...]}               refused once the map's version has changed
 *       status -> {"paused":bool,"auto":bool,"running":n,"queued":n,"bytes_left","rate",
 *                  "seconds_left", "operators":[operator...]}
 *       cancel -> {"cancelled":n}                     those not under way, and those that may be
 *   admin.operator   {"action":"list"|"cancel", "id"?, "all"?:bool}
 *       list   -> {"operators":[operator...], "finished":[{"id","kind","group","outcome","why","reason",
 *                  "ended_ms"}...]}
 *   admin.why        {"group"|"node"|"operator"|"slot"} -> {"lines":[text...]}: state, what is wanted, what
 *                                                 it waits for, what the planner refused and why
 *   admin.member     {"action":"add"|"remove"|"list", "id", "peer"?} -> {"members":[...]}
 *   admin.map        {"action":"export"} -> {"state":bin,...}; {"action":"import","state":bin}
 *   admin.recover    {"action":"plan"|"apply"|..., "lost":[node...]?}
 *
 *   op:       {"kind","group","replica","from","to","slot","into","bytes","why"}     (node names)
 *   operator: {"id","kind","group","state":"queued"|"running"|"cancelling","step":name,"at","steps",
 *              "from","to","bytes","moved","reason","origin","age_ms","waits_for":text}
 *   load:     {"node","before_percent","after_percent","peak_disk_percent"}
 *
 * Owner: struct server.  Thread: the loop.  Depends on: request, operator, plan. */
#ifndef PLACEMENTD_ADMIN_H
#define PLACEMENTD_ADMIN_H

#endif
