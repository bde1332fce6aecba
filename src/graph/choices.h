/* choices.h -- kernel choices as backends see them: one of several candidates for a call, by rule, as remembered, or by trying. */
#ifndef RT_GRAPH_CHOICES_H
#define RT_GRAPH_CHOICES_H

#include "graph/row.h"

/* The ways to compute a call. make returns a backend's state for way k, or NULL where it does not apply, and the scratch that it needs. */
typedef struct rt__ways {
    const char *const *names; /* n of them, as files keep them */
    int n, rule;              /* rule: the way to go where nothing else is known */
    void *(*make)(const rt_call *c, int k, size_t *scratch);
    void (*run)(const rt_call *c);
    void (*release)(void *state);
    double (*clock)(void);   /* seconds; NULL: the system's. On a device: waits for what was requested */
    const rt_device *device; /* where operands lie; NULL: in the host's memory */
} rt__ways;

/* The state of the way that c->choices knows for `key` (what tells this call from others: processor, library, threads, shape), else of the fastest if
 * the table tries, else of the rule's. NULL: neither the rule's way nor an earlier one in the list applies. */
void *rt__choose(const rt_call *c, const char *key, const rt__ways *ways, size_t *scratch);

/* What tells a call from others, for a table of choices: who computes it, its row, shapes, types, layouts and attributes. For convolutions and products. */
void rt__choice_key(const rt_call *c, const char *who, char *text, size_t size);

#endif
