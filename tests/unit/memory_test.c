/* memory_test.c -- the memory of programs: a wrong plan is found, a right one takes little more than what lives at once, `recompute` less for the
 * same bits. */
#include "net_check.h"

#include "graph/program.h"
#include "tolerances.h"

#include <limits.h>

/* One update of a network on the loss of net_check.h, compiled for `batch` samples. */
typedef struct training {
    net_case c;
    rt_update u;
    rt_program *p;
} training;

static void open_training(training *t, const char *folder, int64_t batch, bool recompute, rt_backend const *backend)
{
    rt_net *net;
    OK(rt_net_open(&net, folder, err));
    const rt_net_info *info = rt_net_describe(net);
    int64_t shape[] = {batch, info->in_channels, info->height, info->width};
    net_build(&t->c, folder, RT_F32, 4, shape, true);
    rt_net_free(net);
    OK(rt_params_init(t->c.set, 7, err));
    t->u = rt_minimise(t->c.loss, t->c.set, &(rt_optimiser){.kind = RT_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1});
    rt_program_spec spec = {.outputs = &t->c.loss,
                            .n_outputs = 1,
                            .updates = &t->u.node,
                            .n_updates = 1,
                            .batch = batch,
                            .backend = backend,
                            .threads = 1,
                            .recompute = recompute ? t->c.loss : NULL};
    OK(rt_compile(&t->p, t->c.g, &spec, err));
}

static void close_training(training *t)
{
    rt_program_free(t->p);
    net_free(&t->c);
}

/* Numbers in (-1, 1) that depend on `key`; labels 0. */
static void fill(rt_program *p, const rt_node *node, uint32_t key)
{
    float *x = rt_program_data(p, node);
    for (int64_t i = 0; x && i < rt_program_count(p, node); i++) {
        uint32_t word[4];
        rt__draw_words(&(rt__draw){.seed = key}, 0, (uint32_t)i, word);
        x[i] = (float)(2 * rt__unit(word[0]) - 1);
    }
}

static const char small_net[] = "tests/data/golden/unet2d/classes", bench_net[] = "bench/small";

/* Does the checker refuse the plan as it stands? */
static bool refused(const rt_program *p)
{
    rt_error err = {0};
    rt_status s = rt__check_plan(p, &err);
    assert_true(s == RT_OK || (s == RT_E_INTERNAL && strstr(err.text, "memory plan is wrong")));
    return s != RT_OK;
}

static bool in_block(const rt_program *p, const void *at)
{
    const char *block = p->block, *x = at;
    return x >= block && x < block + p->block_bytes;
}

/* Every way of a single step to spoil what another needs: its result lies where a later step's input does, its scratch does, it is read elsewhere
 * than it was written, a partial sum lies on its sum. */
static void wrong_plans_are_found(void **state)
{
    (void)state;
    training t;
    open_training(&t, small_net, 2, false, NULL);
    rt_program *p = t.p;
    assert_false(refused(p));
    int spoiled = 0, scratch = 0, moved = 0, sums = 0;
    for (int i = p->n_prologue; i + 1 < p->n_steps; i++) {
        rt__step *s = &p->steps[i], *next = &p->steps[i + 1];
        void *out = s->call.out.data, *room = s->call.scratch;
        size_t need = s->scratch;
        for (int j = 0; j < next->call.n_in; j++) { /* live, and not the step's own result */
            void *live = next->call.in[j].data;
            if (!in_block(p, live) || live == out) continue;
            s->call.out.data = live;
            if (!refused(p)) fail_msg("step %d, %s, may write on input %d of %s", i, s->op->name, j, next->op->name);
            s->call.out.data = out;
            s->call.scratch = live;
            s->scratch = 64;
            if (!refused(p)) fail_msg("step %d, %s, may have scratch on input %d of %s", i, s->op->name, j, next->op->name);
            s->call.scratch = room;
            s->scratch = need;
            spoiled++, scratch++;
        }
        for (int j = 0; j < s->call.n_in; j++) {
            rt_view *in = (rt_view *)(uintptr_t)&s->call.in[j];
            if (!in_block(p, in->data)) continue;
            in->data = (char *)in->data + 64;
            if (!refused(p)) fail_msg("step %d, %s, may read input %d elsewhere", i, s->op->name, j);
            in->data = (char *)in->data - 64;
            moved++;
        }
        if (s->join) {
            void *partial = s->partial;
            s->partial = out;
            if (!refused(p)) fail_msg("step %d, %s, may add to its own partial sum", i, s->op->name);
            s->partial = partial;
            sums++;
        }
    }
    assert_false(refused(p));
    print_message("%d steps: %d spoiled inputs, %d scratches, %d moved reads, %d partial sums found\n", p->n_steps, spoiled, scratch, moved,
                  sums);
    assert_true(spoiled > 200 && scratch > 200 && moved > 500 && sums > 20);
    close_training(&t);
}

/* The most that lives at once: no plan can take less. */
static int64_t lower_bound(const rt_program *p)
{
    int64_t most = 0;
    for (int i = 0; i < p->n_steps; i++) {
        int64_t sum = 0;
        for (int k = 0; k < p->n_storages; k++) {
            const rt__storage *s = &p->storages[k];
            if (s->offset >= 0 && s->first <= i && i <= s->last) sum += s->bytes;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

static void plans_are_tight(void **state)
{
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        training t;
        open_training(&t, bench_net, 4, recompute, NULL);
        double mib = (double)rt_program_bytes(t.p) / 0x1p20, bound = (double)lower_bound(t.p) / 0x1p20;
        print_message("%s%s, batch 4: %.2f MiB planned, %.2f live at once\n", bench_net, recompute ? ", recompute" : "", mib, bound);
        assert_true(mib >= bound && mib <= PLAN_SLACK * bound);
        close_training(&t);
    }
}

/* Three updates of 4 samples in slices of 2: values, losses and moments to the bit. */
static void recomputing_keeps_the_bits(void **state)
{
    (void)state;
    enum { UPDATES = 3, SLICE = 2 };
    const rt_backend *backends[] = {rt_backend_find("reference"), rt_backend_find(NULL)};
    for (int b = 0; b < 2; b++) {
        training t[2];
        for (int again = 0; again < 2; again++) {
            open_training(&t[again], small_net, SLICE, again, backends[b]);
            rt_program *p = t[again].p;
            for (uint32_t k = 0; k < UPDATES * 2; k++) {
                fill(p, t[again].c.x, k), fill(p, t[again].c.target, k + 100), fill(p, t[again].c.t, k + 200);
                *(float *)rt_program_data(p, t[again].u.lr) = 1e-3f;
                *(float *)rt_program_data(p, t[again].u.t) = (float)(k / 2 + 1);
                bool last = k % 2;
                OK(rt_run(p, &(rt_clock){.seed = 1, .step = k / 2, .first = last * SLICE, .total = 4, .resumed = last, .more = !last},
                          err));
            }
        }
        size_t bytes = (size_t)rt_params_extent(t[0].c.set, RT_MOMENT1) * sizeof(float);
        assert_memory_equal(rt_program_data(t[0].p, t[0].c.loss), rt_program_data(t[1].p, t[1].c.loss), sizeof(float));
        assert_memory_equal(rt_params_data(t[0].c.set, RT_VALUE), rt_params_data(t[1].c.set, RT_VALUE), bytes);
        assert_memory_equal(rt_params_data(t[0].c.set, RT_MOMENT2), rt_params_data(t[1].c.set, RT_MOMENT2), bytes);
        assert_true(t[1].p->n_steps > t[0].p->n_steps);
        close_training(&t[0]);
        close_training(&t[1]);
    }
    training keep, again;
    open_training(&keep, bench_net, 16, false, NULL);
    open_training(&again, bench_net, 16, true, NULL);
    double ratio = (double)rt_program_bytes(again.p) / (double)rt_program_bytes(keep.p);
    print_message("%s: %.3f of the memory, %.3f of the operations\n", bench_net, ratio, rt_program_flop(again.p) / rt_program_flop(keep.p));
    assert_true(ratio < 0.75 && rt_program_flop(again.p) < 1.01 * rt_program_flop(keep.p));
    close_training(&keep);
    close_training(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_plans_are_found), cmocka_unit_test(plans_are_tight),
                                       cmocka_unit_test(recomputing_keeps_the_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
