#include "request.h"

#include <errno.h>
#include <string.h>

#include "../common/message.h"
#include "../common/plan.h"
#include "connection.h"
#include "container.h"
#include "exec.h"
#include "held.h"
#include "monitor.h"

namespace berth {
namespace {

struct Request {
  const char* id = "";
  const char* plan_path = "";
  const char* exec_id = "";
  const char* pause_program = "";
  Bytes process;
  Bytes namespaces;
  int64_t signal = 0;
  int64_t timeout_ms = 0;
  int64_t shared_memory_bytes = 0;
  int64_t restart_policy = 0;
  int64_t restart_maximum = 0;
  bool all = false;
  bool stop = false;
  bool in = false;
  bool out = false;
  bool err = false;
  bool detach = false;
  bool shares_memory = false;
};

bool TakeText(Arena* arena, const Field& field, const char** text) {
  if (memchr(field.bytes.data, 0, field.bytes.size) != nullptr) return false;
  *text = arena->Text(field.bytes.data, field.bytes.size);
  return *text != nullptr;
}

bool TakeFlag(const Field& field, bool* flag) {
  int64_t number;
  if (!field.Number(&number)) return false;
  *flag = number != 0;
  return true;
}

bool TakeField(Arena* arena, const Field& field, Request* request) {
  switch (field.tag) {
    case Tag::kRequestId:
      return TakeText(arena, field, &request->id);
    case Tag::kRequestPlanPath:
      return TakeText(arena, field, &request->plan_path);
    case Tag::kRequestNamespaces:
      request->namespaces = field.bytes;
      return true;
    case Tag::kRequestExecId:
      return TakeText(arena, field, &request->exec_id);
    case Tag::kRequestProcess:
      request->process = field.bytes;
      return true;
    case Tag::kRequestPauseProgram:
      return TakeText(arena, field, &request->pause_program);
    case Tag::kRequestSharedMemoryBytes:
      request->shares_memory = true;
      return field.Number(&request->shared_memory_bytes);
    case Tag::kRequestSignal:
      return field.Number(&request->signal);
    case Tag::kRequestTimeoutMs:
      return field.Number(&request->timeout_ms);
    case Tag::kRequestRestartPolicy:
      return field.Number(&request->restart_policy);
    case Tag::kRequestRestartMaximum:
      return field.Number(&request->restart_maximum);
    case Tag::kRequestAll:
      return TakeFlag(field, &request->all);
    case Tag::kRequestStop:
      return TakeFlag(field, &request->stop);
    case Tag::kRequestStdin:
      return TakeFlag(field, &request->in);
    case Tag::kRequestStdout:
      return TakeFlag(field, &request->out);
    case Tag::kRequestStderr:
      return TakeFlag(field, &request->err);
    case Tag::kRequestDetach:
      return TakeFlag(field, &request->detach);
    default:
      return false;
  }
}

void Refuse(Connection* connection, const char* stage, int error, const char* text) {
  Failure failure;
  failure.Set(stage, error, text);
  connection->ReplyFailure(failure);
}

void Start(Connection* connection, Container* container) {
  if (container->state() != Container::State::kCreated || container->process().state() != Process::State::kReady) {
    return Refuse(connection, "start", EBUSY, "the container has been started already");
  }
  container->Start(connection);
}

void Signal(Connection* connection, const Request& request, Container* container) {
  Failure failure;
  if (request.signal < 0 || request.signal > 64) return Refuse(connection, "signal", EINVAL, "no such signal");
  if (!container->Signal(static_cast<int>(request.signal), request.all, request.stop, &failure)) {
    return connection->ReplyFailure(failure);
  }
  connection->ReplyOk();
}

void Attach(Connection* connection, const Request& request, Container* container) {
  if (connection->HasTarget()) return Refuse(connection, "attach", EBUSY, "this connection is attached already");
  if (container->state() == Container::State::kStopped) {
    connection->ReplyOk();
    JsonWriter json;
    container->WriteRecord(&json);
    return connection->Send(Frame::kExit, json.data(), json.size());
  }
  const bool starter = container->state() == Container::State::kCreated;
  connection->Attach({container->stdio(), request.in, request.out, request.err, starter});
  connection->ReplyOk();
}

void Execute(Connection* connection, const Request& request, Container* container) {
  if (connection->HasTarget() && !request.detach) {
    return Refuse(connection, "exec", EBUSY, "this connection is attached already");
  }
  if (!container->IsRunning()) return Refuse(connection, "exec", ESRCH, "the container is not running");
  Arena arena;
  const char* error = nullptr;
  const ProcessPlan* plan = DecodeProcess(request.process, &arena, &error);
  if (plan == nullptr) return Refuse(connection, "plan", EBADMSG, error);
  if (request.timeout_ms < 0 || request.timeout_ms > UINT32_MAX) return Refuse(connection, "exec", EINVAL, "timeout");
  Exec::Options options;
  options.id = request.exec_id;
  options.keep_stdin = request.in;
  options.detach = request.detach;
  options.owned = request.stop;
  options.timeout_ms = static_cast<uint32_t>(request.timeout_ms);
  Exec::Begin(container, *plan, options, connection);
}

void Wait(Connection* connection, Container* container) {
  if (container->state() != Container::State::kStopped) {
    if (!connection->WaitFor(container)) return Refuse(connection, "wait", ENOSPC, "too many waits on one connection");
    return connection->ReplyOk();
  }
  connection->ReplyOk();
  JsonWriter json;
  container->WriteRecord(&json);
  connection->Send(Frame::kExit, json.data(), json.size());
}

void Update(Connection* connection, const Request& request, Container* container) {
  if (request.restart_policy < 0 || request.restart_policy > static_cast<int64_t>(RestartPolicy::kUnlessStopped) ||
      request.restart_maximum < 0 || request.restart_maximum > INT32_MAX) {
    return Refuse(connection, "update", EINVAL, "no such restart policy");
  }
  container->Update(static_cast<RestartPolicy>(request.restart_policy), static_cast<uint32_t>(request.restart_maximum));
  connection->ReplyOk();
}

void Remove(Connection* connection, Container* container) {
  if (container->state() != Container::State::kStopped || Exec::AnyIn(container)) {
    return Refuse(connection, "remove", EBUSY, "the container is not stopped");
  }
  container->Remove();
  StatusChanged();
  connection->ReplyOk();
}

void Status(Connection* connection) {
  JsonWriter json;
  WriteStatus(&json);
  connection->Reply(json);
}

void Namespaces(Connection* connection, const Request& request) {
  Arena arena;
  const char* error = nullptr;
  const ContainerPlan* plan = DecodeNamespaces(request.namespaces, &arena, &error);
  if (plan == nullptr) return Refuse(connection, "plan", EBADMSG, error);
  // 0 would be a tmpfs without a limit.
  if (request.shares_memory && request.shared_memory_bytes <= 0) {
    return Refuse(connection, "shared memory", EINVAL, "shared memory of no size");
  }
  HoldOptions options;
  options.pause_program = request.pause_program;
  options.shared_memory_bytes = static_cast<uint64_t>(request.shared_memory_bytes);
  Failure failure;
  if (!HeldMake(*plan, options, request.all, request.stop, &failure)) return connection->ReplyFailure(failure);
  JsonWriter json;
  json.BeginObject();
  json.Flag("ok", true);
  HeldWrite(&json);
  json.EndObject();
  connection->Reply(json);
}

void Quit(Connection* connection) {
  MonitorQuit();
  if (Container::AnyLive()) return Refuse(connection, "quit", EBUSY, "a container is alive; the monitor ends with it");
  connection->ReplyOk();
}

}  // namespace

void TakeRequest(Connection* connection, Frame type, Bytes payload) {
  Arena arena;
  Request request;
  Reader reader(payload);
  Field field;
  while (reader.Next(&field)) {
    if (TakeField(&arena, field, &request)) continue;
    return Refuse(connection, "request", EBADMSG, "the request holds a field that this monitor does not understand");
  }
  if (!reader.ok()) return Refuse(connection, "request", EBADMSG, "the request is damaged");
  switch (type) {
    case Frame::kCreate:
      return Container::Create(request.plan_path, connection);
    case Frame::kStatus:
      return Status(connection);
    case Frame::kNamespaces:
      return Namespaces(connection, request);
    case Frame::kQuit:
      return Quit(connection);
    default:
      break;
  }
  Container* container = Container::Find(request.id);
  if (container == nullptr) return Refuse(connection, "find", ENOENT, "this monitor has no such container");
  switch (type) {
    case Frame::kStart:
      return Start(connection, container);
    case Frame::kSignal:
      return Signal(connection, request, container);
    case Frame::kAttach:
      return Attach(connection, request, container);
    case Frame::kExec:
      return Execute(connection, request, container);
    case Frame::kWait:
      return Wait(connection, container);
    case Frame::kReopenLog:
      if (container->ReopenLog()) return connection->ReplyOk();
      return Refuse(connection, "log", errno, strerror(errno));
    case Frame::kUpdate:
      return Update(connection, request, container);
    case Frame::kRemove:
      return Remove(connection, container);
    default:
      return Refuse(connection, "request", ENOSYS, "this monitor does not know such a request");
  }
}

void ForgetConnection(const Connection* connection) {
  Container::ForgetConnection(connection);
  Exec::ForgetConnection(connection);
}

}  // namespace berth
