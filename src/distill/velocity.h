/* velocity.h -- what scm and meanflow share: a network read as a velocity along a path from data to noise, whatever it predicts and whatever process it is
 * told of, and what they minimise.
 *
 *     circle        x = cos phi x0 + sin phi eps      dx/dphi = cos phi eps - sin phi x0
 *     straight      z = (1 - t) x0 + t eps            dz/dt = eps - x0
 *
 * A process is the same path at another pace and scale: x_t = alpha x0 + beta eps is sqrt(alpha^2 + beta^2) x at the angle phi = atan(beta/alpha), and
 * (alpha + beta) z at t = beta/(alpha + beta). */
#ifndef RT_DISTILL_VELOCITY_H
#define RT_DISTILL_VELOCITY_H

#include "distill/method.h"

/* ---- the path of a process, by the angle */

/* alpha, beta and what the network is told, and their derivatives in phi. A discrete process says them at whole times only: in between, alpha and beta keep
 * to the circle, and the time is the monotone cubic (Fritsch & Carlson 1980) through the angles of its table, so that its derivative is continuous. */
typedef struct rt__path_point {
    double alpha, beta, network;
    double d_alpha, d_beta, d_network;
} rt__path_point;

double rt__path_end(const rt_process *p);                                                  /* the angle of its noisiest time */
rt_status rt__path_at(const rt_process *p, double phi, rt__path_point *at, rt_error *err); /* 0 < phi <= its end */

/* Number m of n quantiles, (m + 1/2)/n, of a standard normal distribution. */
double rt__normal_quantile(int m, int n);

/* ---- nodes. Times and coefficients are (B,1,..,1) */

/* The velocity of a path x = a x0 + b eps, a' x0 + b' eps with a' = -b, b' = a on the circle and a' = -1, b' = 1 on the straight line, from the output of a
 * network that was asked at alpha, beta, a multiple of (a, b). */
rt_node *rt__read_velocity(const rt_prediction *p, rt_node *out, rt_node *x, rt_node *a, rt_node *b, bool circle, rt_node *alpha,
                           rt_node *beta);
/* The same from x0 on the circle: (cos x - x0)/sin, and on the line: (z - x0)/t. a is cos, 1; b is sin, t. */
rt_node *rt__velocity_towards(rt_node *x, rt_node *x0, rt_node *a, rt_node *b);

/* scm: the normalised tangent g/(|g| + 0.1) with g = -cos^2 (F - dx) - r (cos sin x + dF), dF the derivative of F along cos sin (dx, 1); r, rank 0, goes
 * from 0 to 1. (B,...) */
rt_node *rt__scm_tangent(rt_node *F, rt_node *dF, rt_node *x, rt_node *dx, rt_node *cos, rt_node *sin, rt_node *r);
/* |F - sg[F + tangent]|^2, (B). */
rt_node *rt__scm_loss(rt_node *F, rt_node *tangent);

/* meanflow: sg[v - (t - r) du], du the derivative of u along (v, 1, 0); and e/(sg e + c)^p with e = |u - target|^2, (B). */
rt_node *rt__meanflow_target(rt_node *v, rt_node *du, rt_node *t, rt_node *r);
rt_node *rt__meanflow_loss(rt_node *u, rt_node *target, double p, double c);

/* ---- methods that need them */

/* Student, teacher and steps; refuses what cannot be differentiated or has no data. `of_teacher`: the path's velocity is the teacher's. Solver: how the
 * student goes from step to step. `key` is what the names of the method's settings begin with. */
typedef struct rt__velocity_plan {
    const char *key, *solver;
    const char *prediction; /* of the student; empty: the teacher's, or a velocity where that cannot be asked at pure noise */
    bool of_teacher, two_times;
    double guidance;
    int steps, teacher_steps; /* of the teacher that the student is compared with */
} rt__velocity_plan;
rt_status rt__plan_velocity(rt_plan *plan, const rt_task *t, const rt__velocity_plan *v, rt_error *err);
/* Is the setting KEY.velocity = `name` teacher (true) or data? */
rt_status rt__velocity_of(const char *key, const char *name, bool *of_teacher, rt_error *err);

#endif
