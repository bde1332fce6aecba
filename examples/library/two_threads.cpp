// two_threads MODEL: retort.h from C++. One model, opened once, drawn from by two threads at the same time; together they give what one call gives.
#include <retort.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Model
{
    struct Close {
        void operator()(retort_model *m) const { retort_model_free(m); }
    };
    std::unique_ptr<retort_model, Close> handle;

    static void check(retort_status status, const retort_error &err)
    {
        if (status != RETORT_OK) throw failure(err.text);
    }

  public:
    explicit Model(const std::string &path)
    {
        retort_error err;
        retort_model *m;
        check(retort_model_open(&m, path.c_str(), nullptr, &err), err);
        handle.reset(m);
    }

    std::int64_t features() const
    {
        retort_model_info info{};
        info.size = sizeof info;
        retort_error err;
        check(retort_model_describe(handle.get(), &info, &err), err);
        return info.features;
    }

    // samples first .. first + count - 1; exceptions do not leave callbacks of retort.h, so nothing is thrown in one
    std::vector<float> draw(std::int64_t first, std::int64_t count) const
    {
        retort_sampling s{};
        s.size = sizeof s;
        s.first = first;
        s.count = count;
        s.batch = 4;
        retort_error err;
        std::vector<float> x(static_cast<std::size_t>(count * features()));
        check(retort_sample(handle.get(), &s, x.data(), nullptr, &err), err);
        return x;
    }
};

int main(int argc, char **argv)
try {
    if (argc != 2) throw failure("usage: two_threads MODEL");
    const Model model(argv[1]);
    const std::vector<float> all = model.draw(0, 8);
    std::vector<float> half[2];
    std::string wrong[2];
    const auto work = [&](int i) {
        try {
            half[i] = model.draw(4 * i, 4);
        } catch (const failure &f) {
            wrong[i] = f.what();
        }
    };
    std::thread other(work, 1);
    work(0);
    other.join();
    for (const std::string &w : wrong)
        if (!w.empty()) throw failure(w);
    half[0].insert(half[0].end(), half[1].begin(), half[1].end());
    if (half[0] != all) throw failure("two threads gave other numbers than one");
    std::cout << "retort " << retort_version_text() << ": 8 samples of " << model.features()
              << " numbers, the same from two threads as from one\n";
    return 0;
} catch (const std::exception &e) {
    std::cerr << "two_threads: " << e.what() << '\n';
    return 1;
}
