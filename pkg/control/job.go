package control

import (
	"time"

	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

func jobStateToProto(s jobs.State) pb.JobState { return pb.JobState(s) }

func jobStateFromProto(s pb.JobState) (jobs.State, error) {
	if s < pb.JobState_JOB_STATE_QUEUED || s > pb.JobState_JOB_STATE_CANCELED {
		return 0, errEnum("job state", int32(s))
	}
	return jobs.State(s), nil
}

func sourcesToProto(list []jobs.Source) []*pb.Source {
	out := make([]*pb.Source, len(list))
	for i, s := range list {
		out[i] = &pb.Source{Path: s.Path, As: s.As}
		if !s.Expected.IsZero() {
			out[i].Expected = digestToProto(s.Expected)
		}
	}
	return out
}

func sourcesFromProto(list []*pb.Source) ([]jobs.Source, error) {
	out := make([]jobs.Source, 0, len(list))
	for _, s := range list {
		d, err := digestFromProto(s.GetExpected())
		if err != nil {
			return nil, err
		}
		out = append(out, jobs.Source{Path: s.GetPath(), As: s.GetAs(), Expected: d})
	}
	return out, nil
}

func specOptionsToProto(s *jobs.Spec) *pb.JobOptions {
	return &pb.JobOptions{
		Into: s.Into, Conflict: conflictToProto(s.Conflict), Names: namesToProto(s.Names), Algorithm: algorithmToProto(s.Algorithm),
		Lanes: clampInt32(s.Lanes), Label: s.Label, Exclude: s.Exclude, Include: s.Include, PreserveLinks: s.Preserve, SkipSpecial: s.SkipSpec,
		KeepGoing: s.KeepGoing, RateLimit: s.Limit, Priority: s.Priority, Deadline: timeToProto(s.Deadline), MaxRetries: clampInt32(s.MaxRetries),
	}
}

// SpecToProto turns what is asked for into a request.
func SpecToProto(s *jobs.Spec) *pb.SubmitTransferRequest {
	return &pb.SubmitTransferRequest{Sources: sourcesToProto(s.Sources), Receiver: s.Receiver, Options: specOptionsToProto(s), RequestId: s.RequestID}
}

func specFromProto(sources []*pb.Source, receiver, requestID string, o *pb.JobOptions) (jobs.Spec, error) {
	s := jobs.Spec{
		RequestID: requestID, Receiver: receiver, Into: o.GetInto(), Lanes: int(o.GetLanes()), Label: o.GetLabel(),
		Exclude: o.GetExclude(), Include: o.GetInclude(), Preserve: o.GetPreserveLinks(), SkipSpec: o.GetSkipSpecial(), KeepGoing: o.GetKeepGoing(),
		Limit: o.GetRateLimit(), Priority: o.GetPriority(), MaxRetries: int(o.GetMaxRetries()),
	}
	var err error
	if s.Sources, err = sourcesFromProto(sources); err != nil {
		return s, err
	}
	if c := o.GetConflict(); c != pb.Conflict_CONFLICT_UNSPECIFIED {
		if s.Conflict, err = conflictFromProto(c); err != nil {
			return s, err
		}
	}
	if n := o.GetNames(); n != pb.Names_NAMES_UNSPECIFIED {
		if s.Names, err = namesFromProto(n); err != nil {
			return s, err
		}
	}
	if a := o.GetAlgorithm(); a != pb.Algorithm_ALGORITHM_UNSPECIFIED {
		if s.Algorithm, err = algorithmFromProto(a); err != nil {
			return s, err
		}
		if s.Algorithm == transfer.SHA256 {
			return s, transfer.Errorf(transfer.Invalid, "read job options", "", "sha256 serves only as an expected digest")
		}
	}
	s.Deadline, err = timeFromProto(o.GetDeadline())
	return s, err
}

func progressToProto(p *jobs.Progress) *pb.Progress {
	out := &pb.Progress{Bytes: p.Bytes, BytesAcked: p.Acked, Files: p.Files, Lanes: clampInt32(p.Lanes), Rate: p.Rate, Receiver: p.To, Note: p.Note, Measured: timeToProto(p.At)}
	if eta := p.ETA(); eta > 0 {
		out.Eta = durationToProto(eta)
	}
	return out
}

// JobToProto turns a job into its message.
func JobToProto(j *jobs.Job) *pb.Job {
	out := &pb.Job{
		Id: j.ID.String(), RequestId: j.Spec.RequestID, Principal: j.Spec.Principal, State: jobStateToProto(j.State),
		Sources: sourcesToProto(j.Spec.Sources), Receiver: j.Spec.Receiver, Options: specOptionsToProto(&j.Spec),
		Attempts: clampInt32(j.Attempts), Failures: clampInt32(j.Failures), NextAttempt: timeToProto(j.NextAt),
		Created: timeToProto(j.Created), Updated: timeToProto(j.Updated), Finished: timeToProto(j.Finished),
		Kind: kindToProto(j.Kind), Reason: j.Reason, Hint: j.Hint, Progress: progressToProto(&j.Progress),
	}
	if j.Receipt != nil {
		out.Receipt = receiptToProto(j.Receipt)
	}
	return out
}

// JobFromProto is the inverse of JobToProto. The error is Invalid.
func JobFromProto(m *pb.Job) (*jobs.Job, error) {
	id, err := idFromProto(m.GetId())
	if err != nil {
		return nil, err
	}
	j := &jobs.Job{ID: id, Attempts: int(m.GetAttempts()), Failures: int(m.GetFailures()), Kind: kindFromProto(m.GetKind()), Reason: m.GetReason(), Hint: m.GetHint()}
	if j.Spec, err = specFromProto(m.GetSources(), m.GetReceiver(), m.GetRequestId(), m.GetOptions()); err != nil {
		return nil, err
	}
	j.Spec.Principal = m.GetPrincipal()
	if j.State, err = jobStateFromProto(m.GetState()); err != nil {
		return nil, err
	}
	p := m.GetProgress()
	j.Progress = jobs.Progress{Bytes: p.GetBytes(), Acked: p.GetBytesAcked(), Files: p.GetFiles(), Lanes: int(p.GetLanes()), Rate: p.GetRate(), To: p.GetReceiver(), Note: p.GetNote()}
	for _, t := range []struct {
		to   *time.Time
		from interface{ AsTime() time.Time }
		set  bool
	}{
		{&j.NextAt, m.GetNextAttempt(), m.GetNextAttempt() != nil},
		{&j.Created, m.GetCreated(), m.GetCreated() != nil},
		{&j.Updated, m.GetUpdated(), m.GetUpdated() != nil},
		{&j.Finished, m.GetFinished(), m.GetFinished() != nil},
		{&j.Progress.At, p.GetMeasured(), p.GetMeasured() != nil},
	} {
		if t.set {
			*t.to = t.from.AsTime()
		}
	}
	if m.GetReceipt() != nil {
		if j.Receipt, err = receiptFromProto(m.GetReceipt()); err != nil {
			return nil, err
		}
	}
	return j, nil
}
