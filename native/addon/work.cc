#include "work.h"

#include <pthread.h>
#include <signal.h>

#include <memory>
#include <mutex>

#include "environment.h"
#include "error.h"

namespace berth {

// One for each environment. Shared with the threads, because a thread may outlive its environment.
struct Gate {
  std::mutex mutex;
  bool closed = false;
  napi_threadsafe_function settle = nullptr;
  // Of the environment's thread only.
  int pending = 0;
};

namespace {

// Waiting needs no room; the default of 8 MiB a thread would count against a memory limit's overcommit.
constexpr size_t kStackBytes = 128 * 1024;

struct Job {
  std::shared_ptr<Gate> gate;
  std::function<void()> run;
  std::function<Napi::Value(Napi::Env)> finish;
  napi_deferred deferred;
};

void Settle(napi_env raw, napi_value, void*, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  // The environment is being torn down: there is nobody to tell.
  if (!raw) return;
  const Napi::Env env(raw);
  if (--job->gate->pending == 0) napi_unref_threadsafe_function(raw, job->gate->settle);
  try {
    napi_resolve_deferred(raw, job->deferred, job->finish(env));
  } catch (const Napi::Error& error) {
    napi_reject_deferred(raw, job->deferred, error.Value());
  }
}

void* Thread(void* argument) {
  Job* job = static_cast<Job*>(argument);
  job->run();
  const std::shared_ptr<Gate> gate = job->gate;
  const std::lock_guard lock(gate->mutex);
  // Closed: the environment is gone, and its promise with it.
  if (gate->closed || napi_call_threadsafe_function(gate->settle, job, napi_tsfn_nonblocking) != napi_ok) {
    delete job;
  }
  return nullptr;
}

// 0 or an errno.
int StartThread(Job* job) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Signals belong to Node's own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, Thread, job);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

std::shared_ptr<Gate> OpenGate(Napi::Env env) {
  auto shared = std::make_shared<Gate>();
  Gate* gate = shared.get();
  const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "berth"),
                                                             0, 1, nullptr, nullptr, nullptr, Settle, &gate->settle);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, gate->settle);
  // Hooks run in reverse order, so this one comes before the thread-safe function's own.
  napi_add_env_cleanup_hook(
      env,
      [](void* argument) {
        Gate* gate = static_cast<Gate*>(argument);
        const std::lock_guard lock(gate->mutex);
        gate->closed = true;
      },
      gate);
  return shared;
}

Napi::Promise Work(Napi::Env env, std::function<void()> run, std::function<Napi::Value(Napi::Env)> finish) {
  const std::shared_ptr<Gate>& gate = Environment::Of(env).gate;
  auto job = std::make_unique<Job>(Job{gate, std::move(run), std::move(finish), nullptr});
  napi_value promise;
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) throw Napi::Error::New(env);
  if (gate->pending++ == 0) napi_ref_threadsafe_function(env, gate->settle);
  if (const int error = StartThread(job.get())) {
    if (--gate->pending == 0) napi_unref_threadsafe_function(env, gate->settle);
    napi_reject_deferred(env, job->deferred, SystemError(env, error, "pthread_create").Value());
  } else {
    job.release();
  }
  return Napi::Promise(env, promise);
}

}  // namespace berth
