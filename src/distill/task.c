/* task.c -- the networks of a run, by walking the list that the method declares: made, started, averaged, copied at the end of rounds. */
#include "distill/method.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_network *rt__network(const rt_task *t, const char *name)
{
    for (int i = 0; i < t->plan.n_networks; i++)
        if (!strcmp(t->plan.networks[i].name, name)) return (rt_network *)(uintptr_t)&t->networks[i];
    return NULL;
}

rt_network *rt__deployed(const rt_task *t)
{
    for (int i = 0; i < t->plan.n_networks; i++)
        if (t->plan.networks[i].deployed) return (rt_network *)(uintptr_t)&t->networks[i];
    return NULL;
}

rt_network *rt__teacher(const rt_task *t)
{
    for (int i = 0; i < t->plan.n_networks; i++)
        if (t->plan.networks[i].kind == RT_NETWORK_TEACHER) return (rt_network *)(uintptr_t)&t->networks[i];
    return NULL;
}

/* ---- how a network is made and starts */

static rt_status new_set(const rt_task *t, const rt_network *n, const char *suffix, rt_params **set, rt_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", n->plan->name, suffix);
    *set = rt_params_new(name, t->real);
    if (!*set) RT_RAISE(RT_E_MEMORY, "out of memory for the network '%s'", n->plan->name);
    if (n->plan->kind != RT_NETWORK_DECLARED) RT_TRY(rt_net_declare(n->denoiser.net, *set, err));
    if (n->plan->declare) RT_TRY(n->plan->declare(t, *set, err));
    return n->plan->deployed && *t->config->train.freeze ? rt_params_freeze(*set, t->config->train.freeze, err) : RT_OK;
}

/* By draws, and then all that `from` has where the set has it, too, and perhaps more; false: it has not, and nothing is taken. */
static rt_status start_as(const rt_task *t, const rt_params *from_set, rt_params *set, bool *taken, rt_error *err)
{
    *taken = false;
    RT_TRY(rt_params_init(set, t->config->seed, err));
    if (!from_set || rt_params_dtype(from_set) != rt_params_dtype(set)) return RT_OK;
    size_t width = rt_dtype_size(rt_params_dtype(set));
    const char *from = rt_params_data((rt_params *)(uintptr_t)from_set, RT_VALUE);
    char *to = rt_params_data(set, RT_VALUE);
    for (int copy = 0; copy < 2; copy++)
        for (int i = 0; i < rt_params_entries(from_set); i++) {
            const rt_entry *a = rt_params_entry(from_set, i), *b = rt_params_entry(set, rt_params_find(set, a->name));
            if (!b || a->rank != b->rank || memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) != 0) return RT_OK;
            if (copy) memcpy(to + (size_t)b->offset * width, from + (size_t)a->offset * width, (size_t)a->count * width);
        }
    rt_params_touch(set);
    *taken = true;
    return RT_OK;
}

/* An architecture of its own must take what the task's data and labels are. */
static rt_status open_own(const rt_task *t, rt_network *n, rt_error *err)
{
    RT_TRY(rt_net_open(&n->own, n->plan->config, err));
    const rt_net_info *i = rt_net_describe(n->own);
    int64_t features = (int64_t)i->in_channels * (i->height ? i->height * i->width : 1);
    if (i->classifier || i->draws || i->camera || i->times != 1 || i->classes != t->classes || features != t->features)
        RT_RAISE(RT_E_INVALID, "%s: a %s of %lld numbers and %d classes cannot be the network '%s', which is asked for %lld and %d",
                 n->plan->config, i->kind, (long long)features, i->classes, n->plan->name, (long long)t->features, t->classes);
    if (!rt_words_equal(i->words, t->words))
        RT_RAISE(RT_E_INVALID, "%s: field '_words': the words of the network '%s' are not the teacher's; copy them from its config.json",
                 n->plan->config, n->plan->name);
    if (i->guidance != t->plan.knob)
        RT_RAISE(RT_E_USAGE, "%s: field '_guidance' is %s, but the network '%s' is %s the weight of guidance; %s", n->plan->config,
                 i->guidance ? "true" : "missing", n->plan->name, t->plan.knob ? "told" : "not told",
                 t->plan.knob ? "set it" : "remove it");
    n->denoiser.net = n->own;
    return RT_OK;
}

static rt_status choose_net(const rt_task *t, rt_network *n, rt_error *err)
{
    const rt_network_plan *p = n->plan;
    if (p->config && *p->config) {
        RT_TRY(open_own(t, n, err));
        rt_net *plain = n->own;
        if (!p->told || rt_net_describe(plain)->guidance) return RT_OK;
        rt_status s = rt_net_with_guidance(&n->own, plain, err);
        rt_net_free(plain);
        n->denoiser.net = n->own;
        return s;
    }
    const rt_net *net = p->kind == RT_NETWORK_NET && t->net ? t->net : t->teacher.net;
    if (!net) RT_RAISE(RT_E_USAGE, "no network to train; give --net with a config.json");
    n->denoiser.net = net;
    if (rt_net_describe(net)->draws)
        RT_RAISE(RT_E_USAGE,
                 "%s: field '_draws' is %d, but nothing is drawn for it; remove it: --draws input adds it where a method has that",
                 t->config->net, rt_net_describe(net)->draws);
    bool told = rt_net_describe(net)->guidance;
    if (told && !p->told)
        RT_RAISE(RT_E_USAGE, "%s: field '_guidance': the network is told the weight of guidance, which %s does not keep as a knob here",
                 p->kind == RT_NETWORK_NET && t->net ? t->config->net : t->config->teacher, t->method->name);
    if (p->told && p->draws) RT_RAISE(RT_E_USAGE, "a student that sees its teacher's draws has no knob of guidance; give one of the two");
    if (p->draws)
        RT_TRY(rt_net_with_draws(&n->own, net, p->draws, err));
    else if (p->told && !told)
        RT_TRY(rt_net_with_guidance(&n->own, net, err));
    else if (p->camera && !rt_net_describe(net)->camera)
        RT_TRY(rt_net_with_camera(&n->own, net, err));
    else
        return RT_OK;
    n->denoiser.net = n->own;
    return RT_OK;
}

/* From the setting `init`: any model of this architecture and prediction, a student of another method too. */
static rt_status start_as_given(const rt_task *t, rt_network *n, rt_error *err)
{
    const rt_prediction *given = t->init.prediction, *wanted = n->denoiser.prediction;
    if (given && wanted && given != wanted)
        RT_RAISE(RT_E_USAGE, "%s: predicts %s, but what is trained %s; give a model of that prediction", t->config->init,
                 rt_prediction_name(given), rt_prediction_name(wanted));
    bool taken = false;
    if (n->plan->declare) RT_TRY(start_as(t, t->init.set, n->set, &taken, err)); /* it has more than a model */
    rt_status s = taken ? RT_OK : rt_params_copy(n->set, RT_VALUE, t->init.set, RT_VALUE, err);
    if (s != RT_OK) rt_error_prefix(err, "%s", t->config->init);
    return s;
}

static rt_status start(const rt_task *t, rt_network *n, rt_error *err)
{
    if (n->plan->deployed && t->init.set) return start_as_given(t, n, err);
    bool taken;
    return start_as(t, n->plan->start == RT_START_TEACHER ? t->teacher.set : NULL, n->set, &taken, err);
}

static rt_status open_network(rt_task *t, rt_network *n, rt_error *err)
{
    const rt_network_plan *p = n->plan;
    n->denoiser = (rt_denoiser){.prediction = p->prediction ? p->prediction : t->teacher.prediction,
                                .solver = p->solver ? p->solver : rt_solver_find("ddim", err),
                                .guidance = p->guidance,
                                .null_class = t->null_class};
    if (p->kind == RT_NETWORK_TEACHER) {
        n->denoiser.net = t->teacher.net;
        n->denoiser.oracle = t->teacher.oracle;
        n->denoiser.set = t->teacher.set;
        return RT_OK;
    }
    if (p->kind != RT_NETWORK_DECLARED) RT_TRY(choose_net(t, n, err));
    RT_TRY(new_set(t, n, "", &n->set, err));
    n->denoiser.set = n->set;
    if (p->averaged) RT_TRY(new_set(t, n, ".average", &n->average, err));
    return p->begin ? p->begin(t, n->set, err) : start(t, n, err);
}

/* What follows a network is one of its kind: a teacher that becomes the student has the student's architecture, and steps as it does. */
static rt_status open_follower(const rt_task *t, rt_network *n, rt_error *err)
{
    const rt_network *source = rt__network(t, n->plan->follows);
    if (!source || source->plan->kind == RT_NETWORK_TEACHER)
        RT_RAISE(RT_E_INTERNAL, "network '%s' follows '%s', which is not trained", n->plan->name, n->plan->follows);
    if (n->set || t->plan.n_rounds < 2) return RT_OK;
    n->set = rt_params_new(n->plan->name, t->real);
    if (!n->set) RT_RAISE(RT_E_MEMORY, "out of memory for the network '%s'", n->plan->name);
    return rt_net_declare(source->denoiser.net, n->set, err);
}

/* ---- the life of a task */

static rt_status check_plan(const rt_task *t, rt_error *err)
{
    const rt_plan *p = &t->plan;
    if (!rt__deployed(t)) RT_RAISE(RT_E_INTERNAL, "%s: no network is deployed", t->method->name);
    if (p->n_rounds < 1 || p->n_rounds > RT_ROUNDS) RT_RAISE(RT_E_USAGE, "%d rounds; 1 to %d can be made", p->n_rounds, RT_ROUNDS);
    for (int i = 0; i < p->n_phases; i++) {
        const rt_network *n = rt__network(t, p->phases[i].network);
        if (!n || !n->plan->trained)
            RT_RAISE(RT_E_INTERNAL, "phase '%s' trains '%s', which is not among the trained networks", p->phases[i].name,
                     p->phases[i].network);
    }
    return RT_OK;
}

static rt_status open_grid(rt_task *t, rt_error *err)
{
    const rt_plan *p = &t->plan;
    if (p->n_step_counts == 0) return RT_OK;
    t->grid = malloc((size_t)(p->step_counts[0] + 1) * sizeof *t->grid);
    if (!t->grid) RT_RAISE(RT_E_MEMORY, "out of memory for a grid of %d steps", p->step_counts[0]);
    RT_TRY(p->grid ? rt_grid_build(p->grid, t->process, p->step_counts[0], t->grid, err)
                   : rt_grid_nested(t->process, p->step_counts, p->n_step_counts, t->grid, err));
    if (p->start > 0) t->grid[0] = p->start;
    if (p->times[0] > 0) memcpy(t->grid, p->times, (size_t)p->step_counts[0] * sizeof *t->grid);
    return rt_grid_check(t->process, p->step_counts[0], t->grid, err);
}

double rt__start_scale(const rt_task *t)
{
    return t->plan.start > 0 ? rt_process_beta(t->process, t->plan.start) : rt_process_noise_scale(t->process);
}

static void shape_of_oracle(rt_task *t)
{
    int64_t shape[3];
    double low, high;
    int rank = rt_oracle_shape(t->teacher.oracle, shape, &low, &high);
    t->rank = rank + 1;
    t->shape[0] = RT_BATCH;
    memcpy(t->shape + 1, shape, (size_t)rank * sizeof *shape);
    t->features = rt_oracle_features(t->teacher.oracle);
}

rt_status rt__task_open(rt_task *t, rt_error *err)
{
    rt_error local = {0};
    if (!err) err = &local;
    const rt_net *shaped = t->net ? t->net : t->teacher.net;
    if (!shaped && t->teacher.oracle && !t->method->showing)
        RT_RAISE(RT_E_USAGE, "%s: an oracle has no network that its student could copy; give --net with a config.json", t->config->teacher);
    const rt_net_info *i = shaped ? rt_net_describe(shaped) : NULL; /* NULL: what is trained is no network of data */
    t->rank = !i ? 0 : i->height ? 4 : 2;
    if (i) memcpy(t->shape, (int64_t[RT_MAX_RANK]){RT_BATCH, i->in_channels, i->height, i->width}, sizeof t->shape);
    if (!i && t->teacher.oracle)
        shape_of_oracle(t);
    else
        t->features = i ? (int64_t)i->in_channels * (i->height ? i->height * i->width : 1) : 0;
    rt_status planned = t->method->plan(t, &t->plan, err); /* what cannot be is refused before anything is written */
    if (planned != RT_OK) t->plan = (rt_plan){0};
    RT_TRY(planned);
    for (int k = 0; k < t->plan.n_networks; k++) t->networks[k].plan = &t->plan.networks[k];
    RT_TRY(check_plan(t, err));
    for (int k = 0; k < t->plan.n_networks; k++) RT_TRY(open_network(t, &t->networks[k], err));
    for (int k = 0; k < t->plan.n_networks; k++) {
        const char *leader = t->plan.networks[k].trails;
        if (t->plan.networks[k].follows) RT_TRY(open_follower(t, &t->networks[k], err));
        if (leader) RT_TRY(rt_params_copy(t->networks[k].set, RT_VALUE, rt__network(t, leader)->set, RT_VALUE, err));
    }
    return open_grid(t, err);
}

void rt__task_close(rt_task *t)
{
    for (int i = 0; i < t->plan.n_networks; i++) {
        rt_params_free(t->networks[i].set);
        rt_params_free(t->networks[i].average);
        rt_net_free(t->networks[i].own);
    }
    free(t->grid);
    memset(t->networks, 0, sizeof t->networks);
    t->plan.n_networks = 0;
    t->grid = NULL;
}

rt_status rt__network_use(const rt_network *n, rt_denoiser *used, rt_error *err)
{
    *used = n->denoiser;
    if (!n->average) return RT_OK;
    used->set = n->average;
    return rt_params_copy(n->average, RT_VALUE, n->set, rt_params_has(n->set, RT_AVERAGE) ? RT_AVERAGE : RT_VALUE, err);
}

rt_status rt__task_refresh(rt_task *t, rt_error *err)
{
    for (int i = 0; i < t->plan.n_networks; i++) {
        rt_params *set = t->networks[i].set;
        if (!t->networks[i].plan->trained) continue;
        for (rt_role role = RT_MOMENT1; role <= RT_MOMENT2; role++) rt_params_zero(set, role);
        if (t->networks[i].plan->averaged) RT_TRY(rt_params_copy(set, RT_AVERAGE, set, RT_VALUE, err));
    }
    return RT_OK;
}

rt_status rt__task_succeed(rt_task *t, rt_error *err)
{
    rt_denoiser used;
    for (int own = 0; own < 2; own++) /* those that follow themselves last: the others take what stands before */
        for (int i = 0; i < t->plan.n_networks; i++) {
            rt_network *n = &t->networks[i];
            const rt_network *source = n->plan->follows ? rt__network(t, n->plan->follows) : NULL;
            if (!source || !n->set || (source == n) != own) continue;
            RT_TRY(rt__network_use(source, &used, err));
            if (used.set != n->set) RT_TRY(rt_params_copy(n->set, RT_VALUE, used.set, RT_VALUE, err));
        }
    return RT_OK;
}
