/* distribution_flow.c -- scm's and meanflow's objectives on given networks, draws and times, derivatives along a direction included, against PyTorch's numbers:
 * make test-distribution. */
#include "golden/distribution_case.h"

#include "distill/velocity.h"

static const double quarter = 1.5707963267948966; /* pi/2 */

static rt_node *column(dist_graph *g, const char *key) { return rt_per_sample(dist_input(g, key, g->c->real), g->z); }
static rt_node *per_batch(rt_node *v) { return rt_reshape(v, 1, (int64_t[]){RT_BATCH}); }

/* ---- scm */

typedef struct circle {
    rt_node *cos, *sin, *x, *F, *dx, *dF;
} circle;

static void on_circle(dist_graph *g, bool of_teacher, circle *o)
{
    dist_case *c = g->c;
    rt_node *phi = rt_scale(column(g, "scm.time"), quarter), *x0 = dist_input(g, "in.x_data", c->real),
            *eps = dist_input(g, "in.noise", c->real);
    rt_node *time = rt_scale(per_batch(phi), 1000 / quarter), *move;
    o->cos = rt_cos(phi), o->sin = rt_sin(phi), move = rt_mul(o->cos, o->sin);
    o->x = rt_diffuse(x0, o->cos, o->sin, eps);
    rt_at at = {o->cos, o->sin, time, NULL, NULL};
    const rt_prediction *v = NULL;
    DIST_OK((v = rt_prediction_find("v", err)) ? RT_OK : RT_E_USAGE); /* the raw output, whatever the folder says of it */
    o->F = rt__read_velocity(v, rt_net_apply(c->student.net, c->student.set, o->x, time, g->y), o->x, o->cos, o->sin, true, o->cos, o->sin);
    rt_denoiser teacher = dist_denoiser(c, &c->teacher, 0); /* its raw output: without guidance */
    teacher.prediction = v;
    o->dx = of_teacher ? rt__velocity_towards(o->x, rt__denoise(&teacher, o->x, NULL, at, g->y), o->cos, o->sin)
                       : rt_sub(rt_mul(o->cos, eps), rt_mul(o->sin, x0));
    o->dF = rt_jvp(o->F, (rt_node *[]){o->x, phi}, (rt_node *[]){rt_mul(move, o->dx), move}, 2);
}

static void scm(dist_case *c, bool of_teacher)
{
    static const double reached[] = {1, 0.3};
    char key[3][64];
    for (int i = 0; i < 2; i++) {
        dist_graph g;
        circle o;
        dist_build(&g, c);
        on_circle(&g, of_teacher, &o);
        rt_node *tangent = rt__scm_tangent(o.F, o.dF, o.x, o.dx, o.cos, o.sin, rt_scalar(g.graph, reached[i]));
        rt_node *per_sample = rt__scm_loss(o.F, tangent);
        const char *kind = of_teacher ? "cd" : "ct", *names[] = {key[0], key[1], key[2]};
        snprintf(key[0], sizeof *key, "scm.%s.dx", kind);
        snprintf(key[1], sizeof *key, "scm.%s.jvp", kind);
        snprintf(key[2], sizeof *key, "scm.%s.%.1f.tangent", kind, reached[i]);
        dist_check_nodes(&g, names, (rt_node *[]){o.dx, o.dF, tangent}, 3);
        snprintf(key[2], sizeof *key, "scm.%s.%.1f", kind, reached[i]);
        dist_check(&g, key[2], per_sample, rt_expect(per_sample), &c->student);
        dist_free(&g);
    }
}

/* ---- meanflow */

static void meanflow(dist_case *c, const dist_network *student, bool of_teacher)
{
    static const struct {
        const char *name;
        double p;
    } powers[] = {{"0.0", 0}, {"0.75", 0.75}, {"1.0", 1}};
    char key[4][64];
    for (int i = 0; i < 3; i++) {
        dist_graph g;
        dist_build(&g, c);
        rt_node *t = column(&g, "meanflow.t"), *r = column(&g, "meanflow.r"), *one = rt_scalar(g.graph, 1), *rest = rt_sub(one, t);
        rt_node *x0 = dist_input(&g, "in.x_data", c->real), *eps = dist_input(&g, "in.noise", c->real), *z = rt_diffuse(x0, rest, t, eps);
        rt_at at = {rest, t, rt_scale(per_batch(t), 1000), NULL, NULL};
        rt_node *both[] = {rt_scale(per_batch(t), 1000), rt_scale(per_batch(r), 1000)};
        for (int k = 0; k < 2; k++) both[k] = rt_reshape(both[k], 2, (int64_t[]){RT_BATCH, 1});
        rt_node *out = rt_net_apply(student->net, student->set, z, rt_concat(both, 2, 1), g.y);
        rt_node *u = rt__read_velocity(student->prediction, out, z, rest, t, false, rest, t);
        rt_node *v = of_teacher ? rt__velocity_towards(z, dist_denoise(&g, &c->teacher, c->guidance, z, at), one, t) : rt_sub(eps, x0);
        rt_node *along_t = rt_broadcast(one, rt_node_rank(t), rt_node_shape(t));
        rt_node *du = rt_jvp(u, (rt_node *[]){z, t}, (rt_node *[]){v, along_t}, 2);
        rt_node *target = rt__meanflow_target(v, du, t, r), *per_sample = rt__meanflow_loss(u, target, powers[i].p, 0.01);
        static const char *const parts[] = {"v", "u", "jvp", "target"};
        const char *names[4];
        for (int k = 0; k < 4; k++) {
            snprintf(key[k], sizeof *key, "meanflow.%s.%s", of_teacher ? "cd" : "ct", parts[k]);
            names[k] = key[k];
        }
        dist_check_nodes(&g, names, (rt_node *[]){v, u, du, target}, 4);
        snprintf(key[0], sizeof *key, "meanflow.%s.%s", of_teacher ? "cd" : "ct", powers[i].name);
        dist_check(&g, key[0], per_sample, rt_expect(per_sample), student);
        dist_free(&g);
    }
}

static void check_case(dist_case *c)
{
    for (int of_teacher = 0; of_teacher < 2; of_teacher++)
        if (dist_has(c, of_teacher ? "scm.cd.jvp" : "scm.ct.jvp")) scm(c, of_teacher);
    if (!dist_has(c, "meanflow.t")) return;
    dist_network student;
    dist_open_network(c, &student, "student-two-times");
    for (int of_teacher = 0; of_teacher < 2; of_teacher++)
        if (dist_has(c, of_teacher ? "meanflow.cd.jvp" : "meanflow.ct.jvp")) meanflow(c, &student, of_teacher);
    rt_params_free(student.set);
    rt_net_free(student.net);
}

int main(int argc, char **argv) { return dist_walk(argc, argv, check_case); }
