/* settings.c -- the keys and values of a configuration file, kept until their turn in the order of precedence. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct list {
    cli_pair *pairs;
    int n;
} list;

void cli_free_pairs(cli_pair *pairs, int n)
{
    for (int i = 0; i < n; i++) {
        free(pairs[i].key);
        free(pairs[i].text);
    }
    free(pairs);
}

static rt_status add_pair(void *user, const char *key, const char *text, rt_error *err)
{
    list *l = user;
    cli_pair *more = realloc(l->pairs, sizeof *more * (size_t)(l->n + 1));
    if (more) l->pairs = more;
    cli_pair pair = {strdup(key), strdup(text), CLI_FILE};
    if (!more || !pair.key || !pair.text) {
        free(pair.key);
        free(pair.text);
        return rt_error_set(err, RT_E_MEMORY, "out of memory for the configuration");
    }
    l->pairs[l->n++] = pair;
    return RT_OK;
}

rt_status cli_read_yaml(const char *path, cli_pair **pairs, int *n, rt_error *err)
{
    list l = {0};
    rt_status status = rt_settings_read(path, add_pair, &l, err);
    if (status != RT_OK) {
        cli_free_pairs(l.pairs, l.n);
        return status;
    }
    *pairs = l.pairs;
    *n = l.n;
    return RT_OK;
}
