/* scene_scores.c -- section 1.3.4: a scene of 3x3x3 nodes seen by two cameras, the renderer and the scores written out in loops, its gradients by central differences.
 *
 * Scores: the teacher's is that of three pictures (a softmax), s_zeta that of N(b, v I), two times for each camera, noise that is drawn once. So every expectation is
 * a mean over four numbered draws, of which all statements hold one by one. */
#include "verify/witness.h"

#include "base/internal.h"
#include "distill/guess.h"
#include "retort/scene.h"

#include <stdlib.h>
#include <string.h>

enum {
    NODES = 3,
    GRID = NODES * NODES * NODES,
    VALUES = 4 * GRID,
    SIDE = 4,
    PIXELS = SIDE * SIDE,
    D = 3 * PIXELS,
    S = 6,
    CAMERAS = 2,
    DRAWS = 4,
    PICTURES = 3
};
static const double zeta_variance = 0.2, step = 1e-5, times[DRAWS] = {0.6, 0.8, 0.7, 0.9};

typedef struct small_scene {
    rt__witness *w;
    const rt_process *flow;
    rt_scene_spec spec;
    rt_params *set;
    rt_graph *g;
    rt_node *grid, *pictures, *xt; /* (DRAWS,3,SIDE,SIDE) */
    double rays[DRAWS][PIXELS][RT_RAY], eps[DRAWS][D], data[PICTURES][D], centre[D], theta[VALUES];
} small_scene;

static double wobble(int i) { return sin(12.9898 * i + 4.1) * cos(3.7 * i); }

/* ---- written out */

static double softplus(double x) { return x > 30 ? x : log1p(exp(x)); }

/* Channel k of the scene at a point of the box, interpolated. */
static double interpolated(const double *theta, const double p[3], int k)
{
    double sum = 0;
    for (int corner = 0; corner < 8; corner++) {
        double w = 1;
        int at[3];
        for (int a = 0; a < 3; a++) { /* x, y, z */
            double u = fmin(fmax((p[a] + 1) / 2 * (NODES - 1), 0), NODES - 1);
            int i = (int)fmin(floor(u), NODES - 2), up = corner >> a & 1;
            w *= up ? u - i : 1 - (u - i);
            at[a] = i + up;
        }
        sum += w * theta[4 * ((at[2] * NODES + at[1]) * NODES + at[0]) + k];
    }
    return sum;
}

/* R(theta, c) of a draw's camera on white, in -1..1. */
static void render(const small_scene *s, const double *theta, int draw, double *x)
{
    for (int i = 0; i < PIXELS; i++) {
        const double *ray = s->rays[draw][i], delta = (ray[7] - ray[6]) / S, cell = 2.0 / (NODES - 1);
        double clear = 1, colour[3] = {0};
        for (int k = 0; k < S && ray[7] > ray[6]; k++) {
            double t = ray[6] + (k + ray[8]) * delta, p[3] = {ray[0] + t * ray[3], ray[1] + t * ray[4], ray[2] + t * ray[5]};
            double stays = exp(-softplus(interpolated(theta, p, 0) + s->spec.density_bias) / cell * delta);
            for (int c = 0; c < 3; c++) colour[c] += clear * (1 - stays) / (1 + exp(-interpolated(theta, p, 1 + c)));
            clear *= stays;
        }
        for (int c = 0; c < 3; c++) x[c * PIXELS + i] = 2 * (colour[c] + clear) - 1;
    }
}

static void noised(const small_scene *s, const double *theta, int draw, double *xt)
{
    render(s, theta, draw, xt);
    for (int j = 0; j < D; j++) xt[j] = (1 - times[draw]) * xt[j] + times[draw] * s->eps[draw][j];
}

/* s_zeta - s_teacher. */
static void bracket(const small_scene *s, int draw, const double *xt, double *out)
{
    double alpha = 1 - times[draw], beta = times[draw], logit[PICTURES], most = -INFINITY, sum = 0;
    for (int k = 0; k < PICTURES; k++) {
        logit[k] = 0;
        for (int j = 0; j < D; j++) logit[k] -= (xt[j] - alpha * s->data[k][j]) * (xt[j] - alpha * s->data[k][j]) / (2 * beta * beta);
        most = fmax(most, logit[k]);
    }
    for (int k = 0; k < PICTURES; k++) sum += exp(logit[k] - most);
    for (int j = 0; j < D; j++) {
        double mean = 0;
        for (int k = 0; k < PICTURES; k++) mean += exp(logit[k] - most) / sum * s->data[k][j];
        out[j] = -(xt[j] - alpha * s->centre[j]) / (alpha * alpha * zeta_variance + beta * beta) + (xt[j] - alpha * mean) / (beta * beta);
    }
}

static double omega(int draw) { return times[draw] * times[draw]; }

/* (1.25). */
static double objective(const small_scene *s, const double *theta, const double *held)
{
    double sum = 0, xt[D], b[D];
    (void)held;
    for (int n = 0; n < DRAWS; n++) {
        noised(s, theta, n, xt);
        bracket(s, n, xt, b);
        for (int j = 0; j < D; j++) sum += omega(n) * b[j] * b[j] / 2 / DRAWS;
    }
    return sum;
}

/* (1.26), the bracket held: [DRAWS][D]. */
static double surrogate(const small_scene *s, const double *theta, const double *held)
{
    double sum = 0, xt[D];
    for (int n = 0; n < DRAWS; n++) {
        noised(s, theta, n, xt);
        for (int j = 0; j < D; j++) sum += omega(n) * held[n * D + j] * xt[j] / DRAWS;
    }
    return sum;
}

static void hold(const small_scene *s, double *held)
{
    double xt[D];
    for (int n = 0; n < DRAWS; n++) {
        noised(s, s->theta, n, xt);
        bracket(s, n, xt, held + n * D);
    }
}

static void differences(const small_scene *s, double (*f)(const small_scene *s, const double *theta, const double *held),
                        const double *held, double *slope)
{
    double theta[VALUES];
    memcpy(theta, s->theta, sizeof theta);
    for (int i = 0; i < VALUES; i++) {
        theta[i] = s->theta[i] + step;
        double up = f(s, theta, held);
        theta[i] = s->theta[i] - step;
        slope[i] = (up - f(s, theta, held)) / (2 * step);
        theta[i] = s->theta[i];
    }
}

/* max |got - want|/max |want|. */
static double apart(const double *got, const double *want, int n)
{
    double far = 0, most = 0;
    for (int i = 0; i < n; i++) far = rt__worse(far, fabs(got[i] - want[i])), most = fmax(most, fabs(want[i]));
    return far / most;
}

/* ---- as the library has it */

static rt_status make(small_scene *s, rt_error *err)
{
    s->spec = rt_scene_defaults(RT_SCENE_GRID);
    for (int a = 0; a < 3; a++) s->spec.nodes[a] = NODES;
    s->spec.samples = S;
    s->spec.height = s->spec.width = SIDE;
    s->set = rt_params_new("scene", RT_F64);
    if (!s->set) RT_RAISE(RT_E_MEMORY, "out of memory for a scene");
    RT_TRY(rt_scene_declare(&s->spec, s->set, err));
    RT_TRY(rt_params_init(s->set, 0, err));
    double *values = rt_params_data(s->set, RT_VALUE);
    for (int i = 0; i < VALUES; i++) s->theta[i] = values[rt_params_entry(s->set, 0)->offset + i] = 1.5 * wobble(i + 1);
    rt_params_touch(s->set);
    for (int n = 0; n < DRAWS; n++) {
        rt_camera c = rt_camera_orbit(30 + 140 * (n % CAMERAS), 20, 3.2, 36);
        double jitter[PIXELS];
        for (int i = 0; i < PIXELS; i++) jitter[i] = 0.5 + 0.4 * wobble(7 * i + n);
        rt_camera_rays(&c, SIDE, SIDE, jitter, RT_F64, s->rays[n]);
        for (int j = 0; j < D; j++) s->eps[n][j] = 1.4 * wobble(100 + n * D + j);
    }
    for (int k = 0; k < PICTURES; k++)
        for (int j = 0; j < D; j++) s->data[k][j] = (double)(float)(wobble(1000 + j) + 1.2 * wobble(2000 + k * D + j));
    for (int j = 0; j < D; j++) s->centre[j] = 0.5 * wobble(3000 + j);
    return RT_OK;
}

static bool open_scene(small_scene *s, rt__witness *w)
{
    static const int64_t shape[] = {DRAWS, 3, SIDE, SIDE}, each[] = {DRAWS, 1, 1, 1}, rays[] = {DRAWS, PIXELS, RT_RAY};
    double alpha[DRAWS];
    *s = (small_scene){.w = w};
    for (int i = 0; i < w->n; i++)
        if (!strcmp(rt_process_name(w->processes[i]), "flow")) s->flow = w->processes[i];
    if (!s->flow || make(s, &w->err) != RT_OK || !(s->g = rt__doubles(w))) return false;
    for (int n = 0; n < DRAWS; n++) alpha[n] = 1 - times[n];
    s->grid = rt_param(s->g, s->set, "grid", 5, (int64_t[]){1, NODES, NODES, NODES, 4}, RT_INIT_CONST(0));
    s->pictures = rt_scene_build(&s->spec, s->set, s->g, rt_reals(s->g, 3, rays, &s->rays[0][0][0]), NULL, NULL).picture;
    s->xt =
        rt_diffuse(s->pictures, rt_reals(s->g, 4, each, alpha), rt_reals(s->g, 4, each, times), rt_reals(s->g, 4, shape, &s->eps[0][0]));
    return true;
}

static void close_scene(small_scene *s)
{
    rt_graph_free(s->g);
    rt_params_free(s->set);
}

static void gradient_of(small_scene *s, rt_node *loss, double *slope)
{
    rt_node *grad;
    rt_grad(loss, &s->grid, 1, &grad);
    rt__value(s->w, grad, VALUES, slope);
}

/* s_zeta - s_teacher as nodes, differentiable in x_t. */
static rt_node *bracket_nodes(small_scene *s, rt_oracle **teacher, rt_oracle **zeta)
{
    static const int64_t each[] = {DRAWS};
    float data[PICTURES * D];
    double covariance[D * D] = {0}, alpha[DRAWS];
    const rt_prediction *x0 = rt_prediction_find("x0", &s->w->err);
    for (int i = 0; i < PICTURES * D; i++) data[i] = (float)s->data[i / D][i % D];
    for (int i = 0; i < D; i++) covariance[i * (D + 1)] = zeta_variance;
    for (int n = 0; n < DRAWS; n++) alpha[n] = 1 - times[n];
    if (rt_oracle_data(teacher, PICTURES, D, data, s->flow, x0, &s->w->err) != RT_OK ||
        rt_oracle_gaussian(zeta, D, s->centre, covariance, s->flow, x0, &s->w->err) != RT_OK)
        return rt_fail(s->g, "no oracle");
    rt_oracle_nodes of_teacher, of_zeta;
    rt_node *a = rt_reals(s->g, 1, each, alpha), *b = rt_reals(s->g, 1, each, times);
    rt_oracle_build(*teacher, s->xt, a, b, NULL, &of_teacher);
    rt_oracle_build(*zeta, s->xt, a, b, NULL, &of_zeta);
    return rt_sub(of_zeta.score, of_teacher.score);
}

/* E of numbers of the draws times nodes, over everything. */
static rt_node *mean_of(small_scene *s, rt_node *x, double (*factor)(int draw))
{
    double w[DRAWS];
    for (int n = 0; n < DRAWS; n++) w[n] = factor(n) / DRAWS;
    return rt_sum(rt_mul(x, rt_reals(s->g, 4, (int64_t[]){DRAWS, 1, 1, 1}, w)), RT_ALL_AXES, false);
}

static double omega_alpha(int draw) { return omega(draw) * (1 - times[draw]); }

/* ---- (1.24): what is rendered and noised. */
static double rendered(rt__witness *w)
{
    small_scene s;
    double got[DRAWS * D], want[DRAWS * D], far = NAN;
    if (open_scene(&s, w)) {
        rt__value(w, s.xt, DRAWS * D, got);
        for (int n = 0; n < DRAWS; n++) noised(&s, s.theta, n, want + n * D);
        far = apart(got, want, DRAWS * D);
    }
    close_scene(&s);
    return far;
}

/* (1.25): its whole gradient, through both scores; that of (1.26) beside it points elsewhere. */
#define COSINE   0.98
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

static double whole_gradient(rt__witness *w)
{
    small_scene s;
    double got[VALUES], want[VALUES], held[DRAWS * D], short_one[VALUES], far = NAN, dot = 0, a = 0, b = 0;
    rt_oracle *teacher = NULL, *zeta = NULL;
    if (open_scene(&s, w)) {
        rt_node *difference = bracket_nodes(&s, &teacher, &zeta);
        gradient_of(&s, rt_scale(mean_of(&s, rt_square(difference), omega), 0.5), got);
        differences(&s, objective, NULL, want);
        far = apart(got, want, VALUES);
        hold(&s, held);
        differences(&s, surrogate, held, short_one);
        for (int i = 0; i < VALUES; i++) dot += want[i] * short_one[i], a += want[i] * want[i], b += short_one[i] * short_one[i];
        if (fabs(dot / sqrt(a * b) - COSINE) > 0.01) far = rt__worse(far, fabs(dot / sqrt(a * b)));
    }
    close_scene(&s);
    rt_oracle_free(teacher);
    rt_oracle_free(zeta);
    return far;
}

/* (1.26): the value. */
static double value_of_surrogate(rt__witness *w)
{
    small_scene s;
    double got, want, held[DRAWS * D], far = NAN;
    rt_oracle *teacher = NULL, *zeta = NULL;
    if (open_scene(&s, w)) {
        rt__value(w, mean_of(&s, rt_mul(rt_stop_grad(bracket_nodes(&s, &teacher, &zeta)), s.xt), omega), 1, &got);
        hold(&s, held);
        want = surrogate(&s, s.theta, held);
        far = fabs(got / want - 1);
    }
    close_scene(&s);
    rt_oracle_free(teacher);
    rt_oracle_free(zeta);
    return far;
}

/* (1.27), (1.28): the gradient of the surrogate through x_t, or through R alone with alpha in front. */
static double held_gradient(rt__witness *w, bool of_pictures)
{
    small_scene s;
    double got[VALUES], want[VALUES], held[DRAWS * D], far = NAN;
    rt_oracle *teacher = NULL, *zeta = NULL;
    if (open_scene(&s, w)) {
        rt_node *u = rt_stop_grad(bracket_nodes(&s, &teacher, &zeta));
        gradient_of(&s, mean_of(&s, rt_mul(u, of_pictures ? s.pictures : s.xt), of_pictures ? omega_alpha : omega), got);
        hold(&s, held);
        differences(&s, surrogate, held, want);
        far = apart(got, want, VALUES);
    }
    close_scene(&s);
    rt_oracle_free(teacher);
    rt_oracle_free(zeta);
    return far;
}

static double through_noised(rt__witness *w) { return held_gradient(w, false); }
static double through_renderer(rt__witness *w) { return held_gradient(w, true); }

/* sum over the cameras of KL(N(alpha R, beta^2 I) || N(alpha b, (alpha^2 v + beta^2) I)) omega, but for what theta does not move. */
static double divergence(const small_scene *s, const double *theta, const double *held)
{
    double sum = 0, x[D];
    (void)held;
    for (int n = 0; n < DRAWS; n++) {
        double alpha = 1 - times[n], beta = times[n];
        render(s, theta, n, x);
        for (int j = 0; j < D; j++)
            sum += omega(n) * alpha * alpha * (x[j] - s->centre[j]) * (x[j] - s->centre[j]) /
                   (alpha * alpha * zeta_variance + beta * beta) / 2 / DRAWS;
    }
    return sum;
}

/* (1.29) as methods have it: the exact score of one particle, -eps/beta, and 0 in its place; noise and its opposite, between which all is linear. */
static double directions(rt__witness *w)
{
    const rt_weight *weight = rt_weight_find("alpha2", &w->err); /* omega = beta^2 */
    small_scene s;
    double want[VALUES], far = NAN;
    if (open_scene(&s, w) && weight) {
        differences(&s, divergence, NULL, want);
        far = 0;
        for (int way = 0; way < 3; way++) {
            double u[DRAWS * D] = {0}, got[VALUES];
            for (int i = 0; i < 2 * DRAWS; i++) {
                int n = i / 2;
                double alpha = 1 - times[n], beta = times[n], x0[D], xt[D], f_z[D], f_t[D], one[D];
                render(&s, s.theta, n, x0);
                for (int j = 0; j < D; j++) {
                    xt[j] = alpha * x0[j] + (i % 2 ? -1 : 1) * beta * s.eps[n][j];
                    f_t[j] =
                        s.centre[j] + alpha * zeta_variance / (alpha * alpha * zeta_variance + beta * beta) * (xt[j] - alpha * s.centre[j]);
                }
                if (way == 2)
                    rt__mean_of_pictures(1, D, x0, alpha, beta, xt, f_z);
                else
                    rt__zeta_of_noise(way == 1, D, alpha, x0, xt, f_z);
                rt__direction(weight, s.flow, times[n], D, f_z, f_t, one);
                for (int j = 0; j < D; j++) u[n * D + j] += one[j] / 2 / DRAWS;
            }
            gradient_of(&s, rt_sum(rt_mul(rt_reals(s.g, 4, (int64_t[]){DRAWS, 3, SIDE, SIDE}, u), s.pictures), RT_ALL_AXES, false), got);
            far = rt__worse(far, apart(got, want, VALUES));
        }
    }
    close_scene(&s);
    return far;
}

const rt__equation rt__scenes[] = {
    {{"1.24", "x_t = alpha_t R(theta) + beta_t eps, R a renderer", "src/scene/scene.c", "rt_scene_build",
      "a volume of 3x3x3 nodes and two cameras, the renderer in loops; relative to the largest", 1e-12},
     rendered},
    {{"1.25", "L_3D = E [omega(t) |s(x_t, t) - s_teacher(x_t, t | c)|^2]/2", "src/diffusion/oracle_graph.c", "rt_oracle_build",
      "its whole gradient, through both scores, against differences of it in loops; the cosine between it and (1.29) is " TEXT(
          COSINE) " there; relative",
      1e-6},
     whole_gradient},
    {{"1.26", "L~_3D = E [omega(t) sg[s(x_t, t) - s_teacher(x_t, t | c)]^T x_t]", "src/distill/scene_source.c", "rt__scene_build",
      "its value, in loops; relative", 1e-10},
     value_of_surrogate},
    {{"1.27", "grad L~_3D = E [omega(t) sg[s - s_teacher]^T dx_t/dtheta]", "src/distill/scene_source.c", "rt__scene_build",
      "through x_t, against differences of (1.26) with its bracket held; relative to the largest", 1e-7},
     through_noised},
    {{"1.28", "grad L~_3D = E [omega(t) alpha_t sg[s - s_teacher]^T dR/dtheta]", "src/distill/scene_source.c", "rt__scene_build",
      "through R, against differences of (1.26) with its bracket held; relative to the largest", 1e-7},
     through_renderer},
    {{"1.29", "grad L~_3D = E [omega(t) alpha_t (s - s_teacher)^T dR/dtheta]", "src/distill/guess.c", "rt__direction",
      "by the exact score of one particle, by -eps/beta and by 0 in its place, the mean over noise and its opposite, against differences "
      "of omega KL(p_t^theta || "
      "p_t) from a normal teacher; relative to the largest",
      1e-7},
     directions},
    RT__LAST,
};
